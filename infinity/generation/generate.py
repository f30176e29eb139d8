"""Generate pictures from prompts, scale by scale, with a key-value cache and classifier-free guidance (paper 3.1).

The unconditional branch of classifier-free guidance (CFG) runs as a second half of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from infinity.bits import BitLabels
from infinity.generation.graphs import graphs_of
from infinity.generation.pruning import PrunedScales
from infinity.generation.sampling import SamplingConfig, picture_generator, uniform_numbers
from infinity.generation.scale_loop import SamplingPlan, ScaleLoop, ScaleStep
from infinity.generation.steering import NOTHING, ScaleDone, Steering
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition, TextEncoder
from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer

OnProgress = Callable[[float], None]
"""Progress callback: the fraction of the work done, from 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """Captions and random numbers of a batch, one per picture.

    Attributes:
        text: Features of B captions, on the transformer's device.
        generators: Random number generators; not used by greedy sampling.
        negative: Features of negative prompts, which replace the unconditional table; or None.
    """

    text: TextCondition
    generators: Sequence[torch.Generator]
    negative: TextCondition | None = None

    def __post_init__(self) -> None:
        size, negative = self.text.batch_size, self.negative
        if len(self.generators) != size or (negative is not None and negative.batch_size != size):
            raise ValueError(
                f"Conditions: expected a generator and a negative caption for each of {size} captions, got "
                f"{len(self.generators)} and {'none' if negative is None else negative.batch_size}"
            )

    def first(self) -> Conditions:
        """Return those of the first picture alone."""
        negative = None if self.negative is None else self.negative.select([0])
        return Conditions(self.text.select([0]), self.generators[:1], negative)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledBits:
    """Sampled bits of a batch of pictures.

    Attributes:
        labels: Bits of all scales.
        summed_BCHW: Sum of the codes, the decoder's input.
        logits: Logits after temperature and guidance, (B, L, C, 2) or (B, L, V); None unless they were kept.
        head_logits: Logits of the head at each scale, before both. They have 2 B rows, conditional first, where logits
            are guided, else B. None unless they were kept.
    """

    labels: BitLabels
    summed_BCHW: Float[Tensor, "B C H W"]
    logits: Tensor | None
    head_logits: tuple[Tensor, ...] | None

    @classmethod
    def of(cls, labels: BitLabels, summed_BCHW: Tensor, kept: Sequence[tuple[Tensor, Tensor]]) -> SampledBits:
        """Return sampled bits with the pairs of the head's and the final logits that were kept of every scale."""
        return cls(
            labels=labels,
            summed_BCHW=summed_BCHW,
            logits=torch.cat([logits for _, logits in kept], dim=1) if kept else None,
            head_logits=tuple(head for head, _ in kept) if kept else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generated:
    """Generated pictures with their bits.

    Attributes:
        images_BHW3: RGB, 0 to 255.
        labels: Bits of all scales.

    Example:
        >>> from infinity.presets import tokenizer_preset, transformer_preset
        >>> from infinity.scales import custom_schedule
        >>> from infinity.text import BuiltinTextConfig, build_text_encoder
        >>> numbers = torch.Generator().manual_seed(0)
        >>> transformer, tokenizer = Transformer(transformer_preset("tiny")), Tokenizer(tokenizer_preset("tiny"))
        >>> transformer.init_weights(numbers)
        >>> tokenizer.init_weights(numbers)
        >>> pictures = generate(
        ...     transformer.eval(),
        ...     tokenizer.eval(),
        ...     build_text_encoder(BuiltinTextConfig()),
        ...     ["a red circle", "a blue square"],
        ...     schedule=custom_schedule(1.0, last_grid=(2, 2), num_scales=2),
        ...     sampling=SamplingConfig(),
        ...     seeds=[0, 0],
        ... )
        >>> tuple(pictures.images_BHW3.shape), tuple(pictures.labels.bits_BLC.shape)
        ((2, 16, 16, 3), (2, 5, 8))
    """

    images_BHW3: UInt8[Tensor, "B H W 3"]
    labels: BitLabels


def generate(
    transformer: Transformer,
    tokenizer: Tokenizer,
    text_encoder: TextEncoder,
    prompts: Sequence[str],
    *,
    schedule: ScaleSchedule,
    sampling: SamplingConfig,
    seeds: Sequence[int],
    progress: OnProgress | None = None,
    steering: Steering = NOTHING,
) -> Generated:
    """Generate one picture per prompt, all of one size.

    The random numbers of a picture depend on its prompt, seed and schedule only, so that a picture comes out the same
    alone and in any batch, up to bits that rounding decides (decision 11).

    Args:
        transformer: Transformer in evaluation mode.
        tokenizer: Tokenizer with as many bits per token as the transformer predicts.
        text_encoder: Text encoder that the transformer was trained with.
        prompts: Prompts; they may be empty strings.
        schedule: Grids of the tokens.
        sampling: Guidance, temperature and top-p.
        seeds: One seed per prompt.
        progress: Called after every scale.
        steering: Bits taken over, later captions, and a callback per scale.

    Raises:
        ValueError: The numbers of prompts and seeds differ, or the models do not fit each other.
    """
    if isinstance(prompts, str):
        raise ValueError(f"generate: expected a list of prompts, got the text {prompts!r:.80}; put it into a list")
    if not prompts or len(prompts) != len(seeds):
        raise ValueError(f"generate: expected one seed per prompt, got {len(prompts)} prompts and {len(seeds)} seeds")
    device = transformer.start.device
    negative = None
    if sampling.negative_prompt is not None:
        negative = text_encoder.encode([sampling.negative_prompt] * len(prompts)).to(device)
    conditions = Conditions(
        text_encoder.encode(prompts).to(device),
        [picture_generator(*picture, schedule) for picture in zip(prompts, seeds, strict=True)],
        negative,
    )
    sampled = sample_bits(
        transformer,
        tokenizer,
        conditions,
        schedule=schedule,
        sampling=sampling,
        progress=progress,
        steering=steering,
    )
    with torch.no_grad():
        pixels = _decode(tokenizer, sampled.summed_BCHW)
    _check_pixels(pixels)
    images = to_uint8(pixels)
    return Generated(images_BHW3=images, labels=sampled.labels)


def to_uint8(images_B3HW: Float[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B H W 3"]:
    """Convert pixels in [-1, 1] to 0 to 255 by truncation, as published, on the CPU.

    ``tokenizer.pixels.to_images`` rounds instead; generation truncates, so that it equals the published code.
    """
    return ((images_B3HW.float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()


@torch.no_grad()
def sample_bits(
    transformer: Transformer,
    tokenizer: Tokenizer,
    conditions: Conditions,
    *,
    schedule: ScaleSchedule,
    sampling: SamplingConfig,
    keep_logits: bool = False,
    progress: OnProgress | None = None,
    steering: Steering = NOTHING,
) -> SampledBits:
    """Sample the bits of all scales for B captions.

    With any guidance but 1, every caption runs twice: rows 0 to B - 1 are conditional, rows B to 2 B - 1 unconditional.
    After the last scale with guidance the unconditional rows are dropped, which halves the work of the scales that
    follow. First scales that all pictures take over from one are computed once (``KeptBits.shared``).

    Args:
        transformer: Transformer in evaluation mode.
        tokenizer: Tokenizer, which defines the codes of the bits.
        conditions: Captions and random numbers.
        schedule: Grids of the tokens.
        sampling: Guidance, temperature and top-p; ``negative_prompt`` is ignored.
        keep_logits: Whether to return logits.
        progress: Called after every scale.
        steering: Bits taken over, later captions, and a callback per scale.

    Raises:
        ValueError: The models do not fit each other, or the steering does not fit the batch.
    """
    _check(transformer, tokenizer)
    steering.check(schedule, conditions.text.batch_size, transformer.config.num_bits)
    size = conditions.text.batch_size
    is_whole = not (sampling.pruned or sampling.saves_cache)
    shared = steering.shared_scales if is_whole and not keep_logits else 0
    loop = begin_loop(transformer, tokenizer, conditions, schedule, sampling, steering, for_one=shared > 0)

    def passed(k: int, total_BCHW: Tensor) -> None:
        if progress is not None:
            progress(schedule.spans[k].stop / schedule.num_tokens)
        if steering.on_scale is not None:
            steering.on_scale(ScaleDone(k, schedule.num_scales, total_BCHW.expand(size, -1, -1, -1)))

    graphs = graphs_of(transformer) if is_whole and steering.is_plain and not keep_logits else None
    results = None if graphs is None else graphs.run(loop, passed)
    kept: list[tuple[Tensor, Tensor]] = []
    if results is None:
        results = []
        for k, step in enumerate(_steps(loop, conditions, shared)):
            results.append((step.bits, step.is_finite))
            kept += [(step.head, step.logits)] if keep_logits else []
            passed(k, loop.running.total_BCHW)
    _check_numbers([is_finite for _, is_finite in results])  # at the end, so that the CPU waits for the GPU only once
    labels = BitLabels.from_scales(schedule, [bits.expand(size, -1, -1, -1) for bits, _ in results])
    return SampledBits.of(labels, loop.running.total_BCHW, kept)


def begin_loop(
    transformer: Transformer,
    tokenizer: Tokenizer,
    conditions: Conditions,
    schedule: ScaleSchedule,
    sampling: SamplingConfig,
    steering: Steering,
    *,
    for_one: bool = False,
) -> ScaleLoop:
    """Return the state before the first scale, of one picture where the first scales are computed once for all."""
    begun = conditions.first() if for_one else conditions
    plan = SamplingPlan.of(sampling, schedule, transformer.config.depth)
    return ScaleLoop(
        transformer=transformer,
        plan=plan,
        sampling=sampling,
        decoding=transformer.start_decoding(
            plan.doubled(transformer, begun.text, begun.negative, 0),
            schedule,
            sampling.cache_shares(transformer.config.depth),
        ),
        running=tokenizer.start_loop(schedule, begun.text.batch_size),
        uniform=None if sampling.greedy else _uniform_numbers(transformer, conditions, schedule),
        offsets=steering.offsets(schedule, transformer.config.num_bits, transformer.start.device),
        steering=steering,
        pruned=PrunedScales(sampling.pruned, schedule) if sampling.pruned else None,
    )


def _steps(loop: ScaleLoop, conditions: Conditions, shared: int) -> Iterator[ScaleStep]:
    """Run scale after scale; the first ``shared`` for one picture, all later ones for each."""
    later = loop.steering.later
    for k in range(loop.schedule.num_scales):
        if k == shared > 0:
            loop.running.repeat(conditions.text.batch_size)
            loop.decoding = loop.decoding.repeat(conditions.text.batch_size)
        if later is not None and k == later.scale:
            doubled = loop.plan.doubled(loop.transformer, later.text, conditions.negative, k)
            loop.decoding = replace(loop.decoding, caption=loop.transformer.read(doubled))
        yield loop.advance(k)


def _uniform_numbers(transformer: Transformer, conditions: Conditions, schedule: ScaleSchedule) -> Tensor:
    config = transformer.config
    per_token = (config.num_bits,) if config.head == "bitwise" else ()
    return uniform_numbers(schedule, conditions.generators, per_token, transformer.start.device)


def _check_numbers(are_numbers: Sequence[Tensor]) -> None:
    wrong = [k for k, fine in enumerate(torch.stack(list(are_numbers)).tolist()) if not fine]
    if wrong:
        raise ValueError(
            f"generation: the logits of scale {wrong[0]} are NaN or infinite; the weights are damaged, or guidance or "
            "1 / temperature is too large for them"
        )


def _decode(tokenizer: Tokenizer, summed_BCHW: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3 H W"]:
    """Decode pictures; on the CPU one by one, since a batch's other rounding would change some pixels by 1."""
    if summed_BCHW.device.type != "cpu":
        return tokenizer.decode(summed_BCHW)
    return torch.cat([tokenizer.decode(one) for one in summed_BCHW.split(1)])


def _check_pixels(pixels: Tensor) -> None:
    if not pixels.isfinite().all():
        raise ValueError("generation: the tokenizer decodes NaN or infinite pixels; its weights are damaged")


def _check(transformer: Transformer, tokenizer: Tokenizer) -> None:
    if transformer.training:
        raise ValueError("generation: the transformer is in training mode and would drop captions; call eval() first")
    if transformer.config.num_bits != tokenizer.config.token_bits:
        raise ValueError(
            f"generation: the transformer predicts {transformer.config.num_bits} bits per token, the tokenizer has "
            f"{tokenizer.config.token_bits}; they do not belong together"
        )
