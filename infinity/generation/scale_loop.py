"""The loop over scales of a batch: what one scale computes from the state that all coarser ones left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool
from torch import Tensor

from infinity.generation.pruning import PrunedScales
from infinity.generation.sampling import SamplingConfig, draw_bits, draw_codes, mix_guided
from infinity.generation.steering import NOTHING, Steering
from infinity.generation.watermark.pattern import leaning
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.tokenizer.residual import ResidualLoop
from infinity.transformer import Decoding, Transformer
from infinity.transformer.loss import likeliest_bits


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Classifier-free guidance and temperature of every scale, for one model."""

    guidance: tuple[float, ...]
    temperature: tuple[float, ...]
    guide_logits: bool
    guided_blocks: frozenset[int]

    @classmethod
    def of(cls, sampling: SamplingConfig, schedule: ScaleSchedule, depth: int) -> SamplingPlan:
        """Return the plan of a schedule for a model with ``depth`` blocks."""
        return cls(
            sampling.guidance_at(schedule),
            sampling.temperature_at(schedule),
            sampling.guide_logits,
            sampling.guided_block_numbers(depth),
        )

    @property
    def num_doubled(self) -> int:
        """Number of leading scales that run the unconditional half too: up to the last with guidance.

        Earlier scales without guidance run it as well, since later ones need its cache.
        """
        return max((k + 1 for k, factor in enumerate(self.guidance) if factor != 1.0), default=0)

    def doubled(
        self, transformer: Transformer, text: TextCondition, negative: TextCondition | None, k: int
    ) -> TextCondition:
        """Return captions with their unconditional half, if guidance needs it at scale k or later."""
        if k >= self.num_doubled:
            return text
        return text.concat(transformer.unconditional(text) if negative is None else negative)

    def logits(
        self, transformer: Transformer, decoding: Decoding, k: int, inputs: Tensor | None, pruned: PrunedScales | None
    ) -> tuple[Tensor, Tensor]:
        """Return the head's logits at scale k, and these logits after temperature and guidance."""
        factor = self.guidance[k]
        is_guided, is_doubled = factor != 1.0, k < self.num_doubled

        def mix(block: int, x: Tensor) -> Tensor:
            return mix_guided(x, factor).repeat(2, 1, 1) if block in self.guided_blocks else x

        if inputs is not None and is_doubled:
            inputs = inputs.repeat(2, 1, 1)
        mixing = mix if is_guided and self.guided_blocks else None
        chosen = None if pruned is None else pruned.choose(k, inputs)
        hidden = transformer.decode_scale(decoding, k, inputs, mixing, chosen)
        hidden = hidden if pruned is None else pruned.complete(k, hidden, chosen)
        pooled = decoding.caption.pooled_BD
        if is_doubled and not (is_guided and self.guide_logits):
            hidden, pooled = hidden.chunk(2)[0], pooled.chunk(2)[0]
        head = transformer.logits(hidden, pooled)
        logits = head * (1 / self.temperature[k])
        return head, mix_guided(logits, factor) if is_guided and self.guide_logits else logits


class ScaleStep(NamedTuple):
    """Result of one scale.

    Attributes:
        bits: Bits of the tokens, (B, h, w, C).
        is_finite: Whether all logits are finite, a scalar on the device.
        head: Logits of the head, before temperature and guidance.
        logits: Logits after both.
    """

    bits: Tensor
    is_finite: Tensor
    head: Tensor
    logits: Tensor


@dataclass(kw_only=True, slots=True, eq=False)
class ScaleLoop:
    """State of a batch between two scales.

    Attributes:
        transformer: Transformer in evaluation mode.
        plan: Guidance and temperature of every scale.
        decoding: Captions and caches.
        running: Sum of the codes so far.
        uniform: Random numbers of all scales; None for greedy sampling.
        offsets: What a watermark adds to the logits (L, C); None without.
        steering: Bits taken over.
        pruned: Tokens left out; None for none.
    """

    transformer: Transformer
    plan: SamplingPlan
    sampling: SamplingConfig
    decoding: Decoding
    running: ResidualLoop
    uniform: Tensor | None
    offsets: Tensor | None = None
    steering: Steering = NOTHING
    pruned: PrunedScales | None = None

    @property
    def schedule(self) -> ScaleSchedule:
        """Grids of the tokens."""
        return self.decoding.schedule

    def advance(self, k: int) -> ScaleStep:
        """Sample the bits of scale k and add their codes to the running sum; scales must come in order."""
        inputs = self.running.next_input(k - 1) if k > 0 else None
        if k == self.plan.num_doubled and k > 0:
            self.decoding = self.decoding.first(len(self.running.total_BCHW))
        head, logits = self.plan.logits(self.transformer, self.decoding, k, inputs, self.pruned)
        span = self.schedule.spans[k]
        led = logits if self.offsets is None else leaning(logits, self.offsets[span])
        chosen = _choose(led, self.sampling, self.uniform, span, self.transformer.config.num_bits)
        bits = self.steering.over(chosen, span).unflatten(1, self.schedule.grids[k])
        self.running.add(bits)
        return ScaleStep(bits, logits.isfinite().all(), head, logits)


def _choose(
    logits: Tensor, sampling: SamplingConfig, uniform: Tensor | None, span: slice, num_bits: int
) -> Bool[Tensor, "B M C"]:
    if uniform is None:
        return likeliest_bits(logits, num_bits)
    draw = draw_bits if logits.ndim == 4 else draw_codes
    return draw(logits.float(), uniform[: len(logits), span], sampling.nucleus)
