"""Replay of the multi-scale quantizer (goldens README, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from infinity.scales import ScaleSchedule
from infinity.tokenizer.quantizer import straight_through
from infinity.tokenizer.residual import ResidualLoop, shrink
from tests.parity.ledger import QUANTIZER, Ledger


def replay_quantizer(ledger: Ledger) -> None:
    """Features to bits, codes and the area-resampled running sums."""
    case = ledger.case
    features = case.inputs["features"]
    schedule = case.position_schedule(tuple(features.shape[-2:]))
    compare_quantized(ledger, features, schedule, summed_name="quantized_out")
    about = {
        "codebook_dim": features.shape[1],
        "batch": features.shape[0],
    }
    ledger.listed_numbers(about)
    ledger.number("image grid", list(features.shape[-2:]), list(schedule.last_grid))
    check_masks(ledger, case.state, features.shape[1])


def compare_quantized(ledger: Ledger, features: Tensor, schedule: ScaleSchedule, *, summed_name: str) -> Tensor:
    """Compare the sum of codes, the bits and the by-products; returns the sum of codes."""
    loop = _loop(features, schedule)
    margins = []
    for k in range(schedule.num_scales):
        _, unit = straight_through(loop.residual(k, features), "bsq")
        margins.append(float(unit.abs().min()))
        scale_bits = unit.permute(0, 2, 3, 1) > 0
        loop.add(scale_bits)
        ledger.equal(f"bit_indices.{k}", scale_bits.unsqueeze(1))
        if k + 1 < schedule.num_scales:
            ledger.close(f"var_inputs.{k}", shrink(loop.total_BCHW, schedule.grids[k + 1]).unsqueeze(2), QUANTIZER)
    ledger.close(summed_name, loop.total_BCHW, QUANTIZER)
    ledger.listed_numbers({"min_abs_normalised_residual_per_scale": margins}, QUANTIZER)
    return loop.total_BCHW


def check_masks(ledger: Ledger, state: dict[str, Tensor], num_bits: int) -> None:
    """Buffers of powers of two, highest first, that files hold and nothing reads."""
    for name, tensor in state.items():
        if name.endswith("lfq.mask"):
            expected = 2 ** torch.arange(num_bits - 1, -1, -1)
            ledger.require(torch.equal(tensor, expected), f"state_dict: {name} does not hold powers of two")


def _loop(features: Tensor, schedule: ScaleSchedule) -> ResidualLoop:
    return ResidualLoop(schedule, batch_size=features.shape[0], num_bits=features.shape[1])
