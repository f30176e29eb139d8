"""Sampling: classifier-free guidance (CFG), temperature, top-p, and the random numbers of a picture (paper 4.7)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.bits import index_to_bits
from infinity.config import Config
from infinity.scales import ScaleSchedule

MOST_EXTREME = 1_000_000
"""Largest guidance, and largest 1 / temperature; useful values are below a hundred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidGuidance(Config):
    """Classifier-free guidance that grows linearly over the scales, from ``start`` to ``end`` (paper Table 9)."""

    start: float = 1.0
    end: float = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig(Config):
    """Settings of sampling.

    The defaults are the paper's: guidance 3 on logits, and top-p 0.97, so that a bit whose rarer value has a
    probability of at most 0.03 is fixed.

    Attributes:
        guidance: Factor c of classifier-free guidance, c * conditional + (1 - c) * unconditional; 1 is none. One
            number, one number per scale (at least as many as there are scales), or a pyramid.
        guide_logits: Whether guidance mixes logits.
        guided_blocks: Blocks whose output guidance mixes, counted from 0, or from the end if negative.
        temperature: Divisor of the logits: one number, or one per scale (at least as many as there are scales).
        greedy: Whether to take the likelier value of every bit; nothing is drawn then.
        nucleus: Top-p: the smallest set of likeliest values whose probability reaches this number is kept; 1 keeps
            all.
        negative_prompt: Text to steer away from; None is the learned unconditional table.
        pruned: Share of the tokens that the last scales leave out, coarse to fine, each from 0 to below 1; the last
            number belongs to the last scale. Empty computes all tokens.
        cache_share: Share of the tokens so far whose keys and values the blocks keep for later scales, above 0 up to 1:
            one number, or one per block (``infinity.transformer.budgeted_cache``).

    Example:
        >>> from infinity.scales import custom_schedule
        >>> schedule = custom_schedule(1.0, last_grid=(4, 4), num_scales=3)
        >>> SamplingConfig(guidance=PyramidGuidance(start=1.0, end=3.0)).guidance_at(schedule)
        (1.0, 2.0, 3.0)
    """

    later: ClassVar[frozenset[str]] = frozenset({"pruned", "cache_share"})

    guidance: float | tuple[float, ...] | PyramidGuidance = 3.0
    guide_logits: bool = True
    guided_blocks: tuple[int, ...] = ()
    temperature: float | tuple[float, ...] = 1.0
    greedy: bool = False
    nucleus: float = 0.97
    negative_prompt: str | None = None
    pruned: tuple[float, ...] = ()
    cache_share: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.nucleus <= 1.0:
            raise ValueError(
                f"SamplingConfig.nucleus: expected a probability above 0 up to 1 (1 keeps all), got {self.nucleus}"
            )
        temperatures = _tuple(self.temperature)
        if not temperatures or min(temperatures) <= 0:
            raise ValueError(
                f"SamplingConfig.temperature: expected positive numbers (greedy=True is the limit of 0), "
                f"got {temperatures!s:.80}"
            )
        if any(not 0 <= share < 1 for share in self.pruned):
            raise ValueError(f"SamplingConfig.pruned: expected shares from 0 to below 1, got {self.pruned!s:.80}")
        kept = _tuple(self.cache_share)
        if not kept or any(not 0 < share <= 1 for share in kept):
            raise ValueError(
                f"SamplingConfig.cache_share: expected shares above 0 up to 1 (1 keeps all), got {kept!s:.80}"
            )
        self._check_sizes(temperatures)
        is_none = self.guidance == 1.0 or self.guidance == ()
        if not (self.guide_logits or self.guided_blocks or is_none):
            raise ValueError("SamplingConfig: guidance needs guide_logits or guided_blocks, got neither")

    def _check_sizes(self, temperatures: tuple[float, ...]) -> None:
        """Refuse numbers with which logits would overflow."""
        pyramid = self.guidance
        factors = (pyramid.start, pyramid.end) if isinstance(pyramid, PyramidGuidance) else pyramid
        for name, values in (("guidance", factors), ("1 / temperature", tuple(1 / t for t in temperatures))):
            values = values if isinstance(values, tuple) else (values,)
            if any(abs(value) > MOST_EXTREME for value in values):
                raise ValueError(
                    f"SamplingConfig: expected a {name} of at most {MOST_EXTREME:,}, got {max(map(abs, values)):g}"
                )

    def guidance_at(self, schedule: ScaleSchedule) -> tuple[float, ...]:
        """Return one guidance factor per scale.

        Raises:
            ValueError: The list is shorter than the schedule.
        """
        if isinstance(self.guidance, PyramidGuidance):
            steps = max(schedule.num_scales - 1, 1)
            grow = (self.guidance.end - self.guidance.start) / steps
            return tuple(self.guidance.start + grow * k for k in range(schedule.num_scales))
        return _per_scale("guidance", self.guidance, schedule)

    def temperature_at(self, schedule: ScaleSchedule) -> tuple[float, ...]:
        """Return one temperature per scale.

        Raises:
            ValueError: The list is shorter than the schedule.
        """
        return _per_scale("temperature", self.temperature, schedule)

    def describe(self) -> str:
        """Return the settings in words.

        Example:
            >>> SamplingConfig(guidance=2.5, temperature=0.5).describe()
            'guidance 2.5 on logits, temperature 0.5, top-p 0.97'
        """
        if isinstance(self.guidance, PyramidGuidance):
            factor = f"{self.guidance.start:g} to {self.guidance.end:g}"
        else:
            factor = _listed(self.guidance)
        places = ["logits"] * self.guide_logits + [f"block {block}" for block in self.guided_blocks]
        guided = f"guidance {factor} on {' and '.join(places)}" if places else "no guidance"
        drawn = "greedy" if self.greedy else f"temperature {_listed(self.temperature)}, top-p {self.nucleus:g}"
        steered = "" if self.negative_prompt is None else f", away from {self.negative_prompt!r}"
        left_out = f", {_percent(self.pruned)} of the last scales' tokens left out" if any(self.pruned) else ""
        kept = "" if not self.saves_cache else f", {_percent(self.cache_share)} of earlier tokens kept"
        return f"{guided}, {drawn}{steered}{left_out}{kept}"

    @property
    def saves_cache(self) -> bool:
        """Whether any block forgets earlier tokens."""
        return any(share < 1 for share in _tuple(self.cache_share))

    def cache_shares(self, depth: int) -> tuple[float, ...]:
        """Return the share of earlier tokens that each block keeps.

        Raises:
            ValueError: A model of this depth has another number of blocks.
        """
        if not isinstance(self.cache_share, tuple):
            return (self.cache_share,) * depth
        if len(self.cache_share) != depth:
            raise ValueError(
                f"SamplingConfig.cache_share: expected one number or {depth}, one per block, got "
                f"{len(self.cache_share)}"
            )
        return self.cache_share

    def guided_block_numbers(self, depth: int) -> frozenset[int]:
        """Return the blocks whose output is mixed, counted from 0.

        Raises:
            ValueError: A model of this depth does not have one of the blocks.
        """
        if any(not -depth <= block < depth for block in self.guided_blocks):
            raise ValueError(
                f"SamplingConfig.guided_blocks: this model has {depth} blocks, got {self.guided_blocks}; "
                "counted from 0, or from the end if negative"
            )
        return frozenset(block % depth for block in self.guided_blocks)


def _listed(value: float | tuple[float, ...]) -> str:
    return ", ".join(f"{each:g}" for each in _tuple(value))


def _percent(value: float | tuple[float, ...]) -> str:
    return ", ".join(f"{each:.3g} %" for each in (100 * share for share in _tuple(value)))


def _tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _per_scale(name: str, value: float | tuple[float, ...], schedule: ScaleSchedule) -> tuple[float, ...]:
    if not isinstance(value, tuple):
        return (value,) * schedule.num_scales
    if len(value) < schedule.num_scales:
        raise ValueError(
            f"SamplingConfig.{name}: expected one number or at least {schedule.num_scales}, one per scale, "
            f"got {len(value)}"
        )
    return value[: schedule.num_scales]


def picture_generator(prompt: str, seed: int, schedule: ScaleSchedule) -> torch.Generator:
    """Return the generator of one picture, a function of prompt, seed and grids alone (decision 11).

    Numbers are drawn on the CPU, so that every device gets the same.

    Example:
        >>> from infinity.scales import custom_schedule
        >>> schedule = custom_schedule(1.0, last_grid=(4, 4), num_scales=3)
        >>> first, again = (picture_generator("a red circle", 0, schedule) for _ in range(2))
        >>> torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=again))
        True
    """
    name = json.dumps([prompt, seed, schedule.to_json()], sort_keys=True)
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def mix_guided(doubled: Float[Tensor, "B2 ..."], guidance: float) -> Float[Tensor, "B ..."]:
    """Mix both halves of the batch: guidance * conditional + (1 - guidance) * unconditional (CFG)."""
    conditional, unconditional = doubled.chunk(2)
    return guidance * conditional + (1 - guidance) * unconditional


def draw_bits(
    logits: Float[Tensor, "B M C 2"], uniform_BMC: Float[Tensor, "B M C"], nucleus: float
) -> Bool[Tensor, "B M C"]:
    """Sample every bit independently, with one uniform number per bit.

    A bit whose rarer value has a probability of at most 1 - nucleus takes the likelier value: top-p sampling among two
    classes, as in the reference.
    """
    one = torch.sigmoid(logits[..., 1] - logits[..., 0])
    is_fixed = torch.minimum(one, 1 - one) <= 1 - nucleus
    return torch.where(is_fixed, logits[..., 1] > logits[..., 0], uniform_BMC < one)


def draw_codes(
    logits: Float[Tensor, "B M V"], uniform_BM: Float[Tensor, "B M"], nucleus: float
) -> Bool[Tensor, "B M C"]:
    """Sample one of the V = 2**C codes of every token by top-p, with one uniform number per token."""
    ordered, codes = logits.double().softmax(dim=-1).sort(dim=-1)
    reached = ordered.cumsum(dim=-1)
    ordered = torch.where(reached <= 1 - nucleus, 0.0, ordered)
    reached = ordered.cumsum(dim=-1)
    place = uniform_BM.double().unsqueeze(-1) * reached[..., -1:]
    chosen = torch.searchsorted(reached, place, right=True).clamp_(max=logits.shape[-1] - 1)
    index = codes.gather(-1, chosen).squeeze(-1)
    return index_to_bits(index, round(math.log2(logits.shape[-1])))


def uniform_numbers(
    schedule: ScaleSchedule,
    generators: Sequence[torch.Generator],
    per_token: tuple[int, ...],
    device: torch.device | str,
) -> Float[Tensor, "B L ..."]:
    """Draw the uniform numbers of all scales, in [0, 1), with one generator per picture.

    They are drawn on the CPU and copied once, so that the loop over scales never waits for a copy.

    Args:
        schedule: Grids of the tokens.
        generators: One generator on the CPU per picture; each draws scale by scale.
        per_token: Shape of one token's numbers: (C,) for bits, () for codes.
        device: Device of the result.
    """
    rows = [
        torch.cat([torch.rand(h * w, *per_token, generator=generator) for h, w in schedule.grids])
        for generator in generators
    ]
    return torch.stack(rows).to(device)
