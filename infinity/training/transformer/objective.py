"""What a transformer learns: the bits of every scale from the caption and coarser, partly wrong, scales (paper 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from infinity.bits import BitLabels
from infinity.config import Config
from infinity.scales import ScaleSchedule
from infinity.tokenizer.self_correction import TeacherForcing, draw_flips, teacher_forcing, teacher_forcing_of_bits
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.flops import training_flops
from infinity.training.learner import Losses
from infinity.training.loaders.latents import LatentBatch
from infinity.training.state import MetricRow
from infinity.transformer.loss import (
    accuracy_per_bit,
    accuracy_per_scale,
    log_partition_penalty,
    scale_weights,
    token_cross_entropy,
)
from infinity.transformer.model import Transformer

Weighting = Literal["by_scale", "by_token"]
"""Whether a token counts 1 / sqrt(tokens of its scale) (published), or all tokens count the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerObjective(Config):
    """What a transformer is taught from a batch.

    Attributes:
        self_correction: Highest rate at which bits of the history are wrong; 0 to 1, 0.3 is the paper's best.
        weighting: How tokens of different scales count.
        z_loss: Weight of the squared logarithm of the partition function, which keeps logits from drifting; 0 is none,
            1e-4 is usual.
        num_scales: Teach only the first so many scales of every picture, which saves the memory of the finer ones;
            those keep what they know. None for all.
    """

    self_correction: float = 0.3
    weighting: Weighting = "by_scale"
    z_loss: float = 0.0
    num_scales: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.self_correction <= 1.0:
            raise ValueError(f"self_correction: expected a share from 0 to 1, got {self.self_correction}")
        if self.z_loss < 0:
            raise ValueError(f"z_loss: expected a weight of at least 0, got {self.z_loss}")
        if self.num_scales is not None and self.num_scales < 1:
            raise ValueError(f"num_scales: expected at least 1 scale or None, got {self.num_scales}")

    def taught(self, schedule: ScaleSchedule) -> ScaleSchedule:
        """The grids that are trained on."""
        if self.num_scales is None or self.num_scales >= schedule.num_scales:
            return schedule
        return schedule.prefix(self.num_scales)


class TransformerTask:
    """A transformer with its loss; on a GPU matrix products are bfloat16, on a CPU float32.

    Attributes:
        module: What is trained.
        bfloat16: Whether the matrix products of the blocks are; the residual stream, norms and head never.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: TokenizerConfig,
        lesson: TransformerObjective,
        *,
        recompute: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Join a transformer with what it learns from.

        Args:
            transformer: What is trained.
            tokenizer: Of the encoder that made the features.
            lesson: Which loss.
            recompute: Save memory by computing every block twice.
            device: Where to compute; where the weights are, unless they wait on the CPU for their turn.
        """
        self.module = transformer
        self._tokenizer, self._lesson, self._recompute = tokenizer, lesson, recompute
        self._device = device or transformer.head.weight.device
        self.bfloat16 = self._device.type == "cuda"

    loss_at_start = math.log(2)
    """Of a bit that is guessed."""

    def losses(self, part: LatentBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        """Cross-entropy in nats a bit, averaged over the tokens of each picture."""
        device, lesson = self._device, self._lesson
        taught, text = self._teach(part, generator), part.text.to(device)
        schedule, bits = taught.labels.schedule, taught.labels.bits_BLC
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            logits = self.module(text, taught.inputs_BMC, schedule, generator=generator, recompute=self._recompute)
        per_token = token_cross_entropy(logits, bits)
        metrics = _accuracies(logits, bits, schedule) if measured else {}
        if lesson.z_loss:
            penalty = log_partition_penalty(logits)
            per_token = per_token + lesson.z_loss * penalty
            if measured:
                metrics["log_partition_square"] = penalty.detach().mean()
        per_sample = per_token @ _weights(schedule, lesson.weighting, device)
        return Losses(per_sample, torch.zeros((), device=device), metrics)

    def _teach(self, part: LatentBatch, generator: torch.Generator) -> TeacherForcing:
        """Inputs and labels, with wrong bits in the history where the rate is above 0."""
        device, rate = self._device, self._lesson.self_correction
        latents = part.latents.to(device, non_blocking=True)
        kind, fold = self._tokenizer.quantizer, self._tokenizer.fold
        schedule = self._lesson.taught(part.schedule)
        number = schedule.num_scales
        if latents.dtype == torch.bool:
            assert rate == 0, "self-correction needs the encoder's features, not only their bits"
            return teacher_forcing_of_bits(BitLabels(part.schedule, latents), kind=kind, fold=fold, num_scales=number)
        flips: list[Tensor] = []
        if rate > 0:
            flips = draw_flips(
                schedule,
                batch_size=len(part.keys),
                num_bits=self._tokenizer.token_bits,
                max_rate=rate,
                generator=_on_device(generator, device),
            )
        return teacher_forcing(latents, part.schedule, kind=kind, fold=fold, flips=flips, num_scales=number)

    def flops(self, part: LatentBatch) -> float:
        """Of the transformer; the frozen models are not counted."""
        return training_flops(self.module.config, self._lesson.taught(part.schedule), part.text.lengths)

    def check(self, history: Sequence[MetricRow]) -> None:
        """Nothing to stop for: constant bits are refused before the training."""


@lru_cache(maxsize=64)
def _weights(schedule: ScaleSchedule, weighting: Weighting, device: torch.device) -> Float[Tensor, " L"]:
    if weighting == "by_scale":
        return scale_weights(schedule, device)
    return torch.full((schedule.num_tokens,), 1.0 / schedule.num_tokens, device=device)


def _accuracies(logits: Tensor, bits: Tensor, schedule: ScaleSchedule) -> dict[str, Tensor]:
    """Accuracy of bits and of whole tokens, over all tokens and by scale; that of bits also by bit."""
    by_scale = accuracy_per_scale(logits.detach(), bits, schedule)
    areas = torch.tensor([h * w for h, w in schedule.grids], device=logits.device, dtype=torch.float32)
    share = areas / areas.sum()
    metrics = {"bit_accuracy": by_scale.bits_K @ share, "token_accuracy": by_scale.tokens_K @ share}
    for k in range(schedule.num_scales):
        metrics[f"bit_accuracy.scale_{k}"] = by_scale.bits_K[k]
        metrics[f"token_accuracy.scale_{k}"] = by_scale.tokens_K[k]
    for number, accuracy in enumerate(accuracy_per_bit(logits.detach(), bits)):
        metrics[f"bit_accuracy.bit_{number}"] = accuracy
    return metrics


def _on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """The generator, or one on the device that it seeds: large random masks are drawn where they are used."""
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device).manual_seed(seed)
