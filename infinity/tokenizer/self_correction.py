"""Bitwise self-correction: transformer inputs with wrong bits and labels that undo them (paper 3.4, Alg. 2)."""

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
    """What one training step of the transformer reads and predicts.

    Attributes:
        inputs_BMC: Resized running sums of scales 2..K, one row a token, float32; M = L minus the tokens of scale 1.
        labels: The bits to predict, of all scales; never flipped themselves.
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
    num_scales: int | None = None,
) -> TeacherForcing:
    """Inputs and labels of the transformer for encoder features.

    Args:
        features_BCHW: Encoder output at full size: the schedule's last grid, or twice that where tokens are folded.
        schedule: Grids of the tokens.
        kind: Which codes the bits stand for.
        fold: Whether a token holds 2x2 positions.
        flips: Masks of the first scales, true where a bit of the history is wrong. None: plain encoding.
        num_scales: Leave out all finer scales; the picture keeps its size, and nothing about the others changes.

    Raises:
        ValueError: Features of another size than the schedule's, or more masks than scales.
    """
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
    labels: BitLabels, *, kind: QuantizerKind = "bsq", fold: bool = False, num_scales: int | None = None
) -> TeacherForcing:
    """Inputs and labels for the bits of plain encoding: what ``teacher_forcing`` gives without flips.

    The features themselves are not needed for that, only for other bits of later scales after flipped ones.
    """
    schedule, num_bits = labels.schedule, labels.bits_BLC.shape[-1]
    kept = schedule if num_scales is None else schedule.prefix(num_scales)
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
            loop.add(labels.scale(k))
            inputs.append(loop.next_input(k))
    empty = torch.zeros(labels.bits_BLC.shape[0], 0, num_bits, device=labels.bits_BLC.device)
    labels = BitLabels(kept, labels.bits_BLC[:, : kept.num_tokens])
    return TeacherForcing(inputs_BMC=torch.cat([empty, *inputs], dim=1), labels=labels)


def start_loop(
    features_BCHW: Float[Tensor, "B C H W"], schedule: ScaleSchedule, *, kind: QuantizerKind, fold: bool
) -> ResidualLoop:
    """A residual loop at zero for these features.

    Raises:
        ValueError: Features of another size than the schedule's.
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
    """Which bits of the history are wrong: every bit on its own, at a rate drawn for every sample and scale.

    The reference shares one rate, in whole percents, over the batch; a rate of its own for every sample is the paper's
    text and shows every batch the whole range.

    Args:
        schedule: Grids of the tokens.
        batch_size: B.
        num_bits: C, bits of one token.
        max_rate: p of the paper; rates are uniform in [0, p]. 0 flips nothing; 0.3 is the paper's best.
        generator: Source of all draws; the masks are on its device.
    """
    if not 0.0 <= max_rate <= 1.0:
        raise ValueError(f"self-correction rate: expected a share from 0 to 1, got {max_rate}")
    rates = max_rate * torch.rand(batch_size, schedule.num_scales, generator=generator, device=generator.device)
    # 16 random bits decide a flip, four flips a draw: a third of the time of a float each.
    thresholds = (rates * 2**16).to(torch.int32).sub_(2**15).to(torch.int16)
    flips = []
    for k, (h, w) in enumerate(schedule.grids):
        draws = _random_int16((batch_size, h, w, num_bits), generator)
        flips.append(draws < thresholds[:, k].reshape(-1, 1, 1, 1))
    return flips


def _random_int16(shape: tuple[int, ...], generator: torch.Generator) -> Int16[Tensor, "*shape"]:
    """Uniform over all 2**16 values."""
    num_draws = math.prod(shape)
    words = torch.empty(-(-num_draws // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:num_draws].reshape(shape)
