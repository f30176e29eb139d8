"""Bitwise self-correction: transformer inputs with flipped bits, and labels that undo them (paper 3.4, Alg. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int16
from torch import Tensor

from infinity.bits import BitLabels
from infinity.scales import ScaleSchedule
from infinity.tokenizer.quantizer import QuantizerKind
from infinity.tokenizer.residual import ResidualLoop


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TeacherForcing:
    """Inputs and labels of one training step of the transformer.

    Attributes:
        inputs_BMC: Resized running sums of scales 2..K, one row per token, float32; M = L minus the tokens of scale 1.
        labels: Bits to predict, of all scales; never flipped themselves.
    """

    inputs_BMC: Float[Tensor, "B M C"]
    labels: BitLabels


@torch.no_grad()
def teacher_forcing(
    features_BCHW: Float[Tensor, "B C H W"],
    schedule: ScaleSchedule,
    *,
    kind: QuantizerKind = "bsq",
    fold: bool = False,
    flips: Sequence[Bool[Tensor, "B H W C"]] | None = None,
    flips_only: bool = False,
    num_scales: int | None = None,
) -> TeacherForcing:
    """Compute inputs and labels of the transformer from encoder features.

    Args:
        features_BCHW: Encoder output at full size: the schedule's last grid, or twice that where tokens are folded.
        schedule: Grids of the tokens.
        kind: Quantizer, which defines the codes of the bits.
        fold: Whether a token holds 2x2 positions.
        flips: Masks of the first scales, true where a bit of the input is wrong. None for plain encoding.
        flips_only: Whether the bits of later scales are those of plain encoding, so that nothing undoes a flip: the
            paper's control experiment (Table 7), which gains nothing.
        num_scales: Number of first scales to return; the others are left out and change nothing. None for all.

    Raises:
        ValueError: The features have another size than the schedule's, or there are more masks than scales.

    Example:
        >>> from infinity.scales import custom_schedule
    >>> schedule = custom_schedule(1.0, last_grid=(2, 2), num_scales=2)
        >>> features = torch.tensor([[2.0, 1.0], [1.0, -2.0]]).reshape(1, 1, 2, 2)
        >>> right = teacher_forcing(features, schedule)
        >>> right.inputs_BMC.flatten().tolist(), right.labels.scale(1).flatten().int().tolist()
        ([1.0, 1.0, 1.0, 1.0], [1, 0, 0, 0])
        >>> wrong = teacher_forcing(features, schedule, flips=[torch.ones(1, 1, 1, 1, dtype=torch.bool)])
        >>> wrong.inputs_BMC.flatten().tolist(), wrong.labels.scale(1).flatten().int().tolist()
        ([-1.0, -1.0, -1.0, -1.0], [1, 1, 1, 0])
    """
    if flips_only and flips:
        plain = teacher_forcing(features_BCHW, schedule, kind=kind, fold=fold)
        return teacher_forcing_of_bits(plain.labels, kind=kind, fold=fold, flips=flips, num_scales=num_scales)
    loop = start_loop(features_BCHW, schedule, kind=kind, fold=fold)
    schedule = schedule if num_scales is None else schedule.prefix(num_scales)
    flips = flips or []
    if len(flips) > schedule.num_scales:
        raise ValueError(f"expected flips of at most {schedule.num_scales} scales, got {len(flips)}")
    num_first, num_bits = schedule.spans[0].stop, features_BCHW.shape[1] * (4 if fold else 1)
    shape = (features_BCHW.shape[0], schedule.num_tokens - num_first, num_bits)
    inputs = torch.empty(shape, device=features_BCHW.device)
    labels = []
    with torch.autocast(features_BCHW.device.type, enabled=False):
        for k, bits in enumerate(islice(loop.label(features_BCHW.float(), flips), schedule.num_scales)):
            labels.append(bits)
            if k + 1 < schedule.num_scales:
                span = schedule.spans[k + 1]
                inputs[:, span.start - num_first : span.stop - num_first] = loop.next_input(k)
    return TeacherForcing(inputs_BMC=inputs, labels=BitLabels.from_scales(schedule, labels))


@torch.no_grad()
def teacher_forcing_of_bits(
    labels: BitLabels,
    *,
    kind: QuantizerKind = "bsq",
    fold: bool = False,
    flips: Sequence[Bool[Tensor, "B H W C"]] | None = None,
    num_scales: int | None = None,
) -> TeacherForcing:
    """Compute inputs and labels from the bits of plain encoding, equal to ``teacher_forcing`` without flips.

    Features are needed only where flips change the bits of later scales.

    Args:
        labels: Bits of all scales.
        kind: Quantizer, which defines the codes of the bits.
        fold: Whether a token holds 2x2 positions.
        flips: Masks of the first scales, true where a bit of the input is wrong; the labels stay as they are.
        num_scales: Number of first scales to return; None for all.

    Raises:
        ValueError: There are more masks than scales.
    """
    schedule, num_bits = labels.schedule, labels.bits_BLC.shape[-1]
    kept = schedule if num_scales is None else schedule.prefix(num_scales)
    flips = flips or []
    if len(flips) > kept.num_scales:
        raise ValueError(f"expected flips of at most {kept.num_scales} scales, got {len(flips)}")
    loop = ResidualLoop(
        schedule,
        batch_size=labels.bits_BLC.shape[0],
        num_bits=num_bits // 4 if fold else num_bits,
        kind=kind,
        fold=fold,
        device=labels.bits_BLC.device,
    )
    inputs = []
    with torch.autocast(labels.bits_BLC.device.type, enabled=False):
        for k in range(kept.num_scales - 1):
            bits = labels.scale(k)
            loop.add(bits ^ flips[k] if k < len(flips) else bits)
            inputs.append(loop.next_input(k))
    empty = torch.zeros(labels.bits_BLC.shape[0], 0, num_bits, device=labels.bits_BLC.device)
    labels = BitLabels(kept, labels.bits_BLC[:, : kept.num_tokens])
    return TeacherForcing(inputs_BMC=torch.cat([empty, *inputs], dim=1), labels=labels)


def start_loop(
    features_BCHW: Float[Tensor, "B C H W"], schedule: ScaleSchedule, *, kind: QuantizerKind, fold: bool
) -> ResidualLoop:
    """Return a residual loop at zero for these features.

    Raises:
        ValueError: The features have another size than the schedule's.
    """
    loop = ResidualLoop(
        schedule,
        batch_size=features_BCHW.shape[0],
        num_bits=features_BCHW.shape[1],
        kind=kind,
        fold=fold,
        device=features_BCHW.device,
    )
    if tuple(features_BCHW.shape[-2:]) != loop.grids[-1]:
        expected, found = loop.grids[-1], tuple(features_BCHW.shape[-2:])
        raise ValueError(f"expected features of {expected} rows and columns for this schedule, got {found}")
    return loop


def draw_flips(
    schedule: ScaleSchedule, *, batch_size: int, num_bits: int, max_rate: float, generator: torch.Generator
) -> list[Bool[Tensor, "B H W C"]]:
    """Draw masks of wrong bits: every bit independently, at a rate drawn per sample and scale.

    The reference shares one rate, in whole percents, over the batch. One rate per sample follows the paper's text, and
    every batch covers the whole range.

    Args:
        schedule: Grids of the tokens.
        batch_size: Number of pictures B.
        num_bits: Bits C per token.
        max_rate: Largest rate, p of the paper; rates are uniform in [0, p]. 0 flips nothing; 0.3 is the paper's best.
        generator: Source of all draws; the masks are on its device.

    Returns:
        One mask per scale, true where a bit is to be flipped.

    Example:
        >>> from infinity.scales import custom_schedule
    >>> schedule = custom_schedule(1.0, last_grid=(2, 2), num_scales=2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> flips = draw_flips(schedule, batch_size=2, num_bits=8, max_rate=0.3, generator=generator)
        >>> [tuple(mask.shape) for mask in flips]
        [(2, 1, 1, 8), (2, 2, 2, 8)]
    """
    if not 0.0 <= max_rate <= 1.0:
        raise ValueError(f"self-correction rate: expected a rate from 0 to 1, got {max_rate}")
    rates = max_rate * torch.rand(batch_size, schedule.num_scales, generator=generator, device=generator.device)
    # 16 random bits decide a flip, and a draw of 64 bits decides four: a third of the time of one float per flip.
    thresholds = (rates * 2**16).to(torch.int32).sub_(2**15).to(torch.int16)
    flips = []
    for k, (h, w) in enumerate(schedule.grids):
        draws = _random_int16((batch_size, h, w, num_bits), generator)
        flips.append(draws < thresholds[:, k].reshape(-1, 1, 1, 1))
    return flips


def _random_int16(shape: tuple[int, ...], generator: torch.Generator) -> Int16[Tensor, "*shape"]:
    """Draw uniformly from all 2**16 values."""
    num_draws = math.prod(shape)
    words = torch.empty(-(-num_draws // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:num_draws].reshape(shape)
