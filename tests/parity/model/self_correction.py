"""Replay of teacher forcing and bitwise self-correction (goldens README, sections 3 and 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infinity.bits import BitLabels
from infinity.scales import ScaleSchedule
from infinity.tokenizer import TeacherForcing, teacher_forcing
from infinity.tokenizer.quantizer import straight_through
from infinity.tokenizer.residual import ResidualLoop, fold_bits
from tests.parity.ledger import QUANTIZER, Ledger


def replay_self_correction(ledger: Ledger) -> None:
    """Plain encoding, all scales flipped, and only the first scales flipped."""
    case = ledger.case
    features, schedule, fold = case.inputs["raw_features"], case.schedule(), case.folds
    names = sorted((n for n in case.inputs if n.startswith("flip_mask.")), key=lambda n: int(n.rsplit(".", 1)[1]))
    flips = [_token_bits(case.inputs[name], grid, fold) for name, grid in zip(names, schedule.grids, strict=False)]
    num_full = int(case.about.get("noise_apply_layers_full", len(flips)))
    num_partial = int(case.about.get("noise_apply_layers_partial", len(flips)))
    runs = {"clean": None, "flip": flips[:num_full], "flip_partial": flips[:num_partial]}
    results = {}
    for run, masks in runs.items():
        results[run] = teacher_forcing(features, schedule, fold=fold, flips=masks)
        _compare_run(ledger, run, results[run])
    _compare_figures(ledger, features, schedule, results)


def _compare_run(ledger: Ledger, run: str, result: TeacherForcing) -> None:
    schedule = result.labels.schedule
    ledger.close(f"x_{run}", result.inputs_BMC, QUANTIZER)
    for k in range(schedule.num_scales):
        ledger.equal(f"gt_bits_{run}.{k}", result.labels.scale(k).flatten(1, 2))


def _compare_figures(
    ledger: Ledger, features: Tensor, schedule: ScaleSchedule, results: dict[str, TeacherForcing]
) -> None:
    clean, flipped = results["clean"].labels, results["flip"].labels
    changed = [int((clean.scale(k) != flipped.scale(k)).sum()) for k in range(schedule.num_scales)]
    grids = ledger.case.position_schedule(tuple(features.shape[-2:]))
    plain, margins = _plain_quantizer(features, grids)
    bits = [fold_bits(scale) if ledger.case.folds else scale for scale in plain]
    same = torch.equal(BitLabels.from_scales(schedule, bits).bits_BLC, clean.bits_BLC)
    ledger.listed_numbers(
        {
            "codebook_dim": features.shape[1],
            "batch": features.shape[0],
            "flipped_bits_changed_gt": changed,
            "check_quantizer_bits_equal_clean_bits": same,
            "vae_scale_schedule": [[1, h, w] for h, w in grids.grids],
        }
    )
    unfolded = schedule.unfolded().grids if ledger.case.folds else schedule.grids
    ledger.number("vae_scale_schedule grids", [list(grid) for grid in grids.grids], [list(grid) for grid in unfolded])
    ledger.listed_numbers({"min_abs_normalised_residual_per_scale": margins}, QUANTIZER)


def _plain_quantizer(features: Tensor, schedule: ScaleSchedule) -> tuple[list[Tensor], list[float]]:
    loop = ResidualLoop(schedule, batch_size=features.shape[0], num_bits=features.shape[1])
    bits, margins = [], []
    for k in range(schedule.num_scales):
        _, unit = straight_through(loop.residual(k, features), "bsq")
        margins.append(float(unit.abs().min()))
        bits.append(unit.permute(0, 2, 3, 1) > 0)
        loop.add(bits[-1])
    return bits, margins


def _token_bits(mask: Tensor, grid: Sequence[int], fold: bool) -> Tensor:
    """(B, 1, h, w, d) of positions, or (B, h w, 4d) of tokens, to (B, H, W, C) of tokens."""
    mask = mask.bool()
    if mask.ndim == 5:
        mask = mask.squeeze(1)
        return fold_bits(mask) if fold else mask
    return mask.unflatten(1, tuple(grid))
