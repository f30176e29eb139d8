"""Bitwise self-correction: transformer inputs with wrong bits and labels that undo them (paper 3.4, Alg. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
) -> TeacherForcing:
    """Inputs and labels of the transformer for encoder features.

    Args:
        features_BCHW: Encoder output at full size: the schedule's last grid, or twice that where tokens are folded.
        schedule: Grids of the tokens.
        kind: Which codes the bits stand for.
        fold: Whether a token holds 2x2 positions.
        flips: One mask a scale, true where a bit of the history is wrong; may end early. None: plain encoding.

    Raises:
        ValueError: Features of another size than the schedule's, or more masks than scales.
    """
    loop = start_loop(features_BCHW, schedule, kind=kind, fold=fold)
    inputs, labels = [], []
    with torch.autocast(features_BCHW.device.type, enabled=False):
        for k, bits in enumerate(loop.label(features_BCHW.float(), flips)):
            labels.append(bits)
            if k + 1 < schedule.num_scales:
                inputs.append(loop.next_input(k))
    empty = features_BCHW.new_zeros(features_BCHW.shape[0], 0, labels[0].shape[-1])
    return TeacherForcing(
        inputs_BMC=torch.cat(inputs, dim=1) if inputs else empty, labels=BitLabels.from_scales(schedule, labels)
    )


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
    device = generator.device
    shape = (batch_size, schedule.num_scales)
    rates = max_rate * torch.rand(shape, generator=generator, device=device)
    draws = [torch.rand((batch_size, h, w, num_bits), generator=generator, device=device) for h, w in schedule.grids]
    return [draw < rates[:, k].reshape(-1, 1, 1, 1) for k, draw in enumerate(draws)]
