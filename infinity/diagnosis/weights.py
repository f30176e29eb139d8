"""What stored weights say about known faults: weights that were rounded, and weights that never moved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from infinity.diagnosis.findings import LikelyCause

ROUNDED_SHARE = 0.95
"""Share of weights that are bfloat16 numbers from which they were rounded; of float32 weights 1 in 65,536 are."""
FROZEN_SHARE = 0.2
"""Share of weights that equal their initial values from which weights are frozen."""


def rounded_share(weights: Mapping[str, Tensor]) -> float:
    """Return the share of non-zero weights that are exactly bfloat16 numbers; 0 where there are none."""
    exact = total = 0
    for value in weights.values():
        if value.is_floating_point():
            moved = value[value != 0].float()
            exact += int((moved.to(torch.bfloat16).float() == moved).sum())
            total += moved.numel()
    return exact / total if total else 0.0


def unmoved(weights: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> tuple[float, list[str]]:
    """Return the share of weights in tensors that keep their initial values, and the names of these tensors.

    A stored state leaves out frozen tensors, so that one that is absent was not trained.
    """
    same = [name for name, value in initial.items() if name not in weights or torch.equal(weights[name], value)]
    total = sum(value.numel() for value in initial.values())
    return (sum(initial[name].numel() for name in same) / total if total else 0.0), sorted(same)


def weight_findings(weights: Mapping[str, Tensor], initial: Mapping[str, Tensor] | None) -> list[LikelyCause]:
    """Return the findings about the weights of a stored state.

    Args:
        weights: The trained weights by name, on the CPU.
        initial: The weights before the first step; None where they are not known.
    """
    found = []
    share = rounded_share(weights)
    if share >= ROUNDED_SHARE:
        evidence = f"{share:.1%} of the weights are exactly bfloat16 numbers; of float32 weights hardly any is"
        found.append(LikelyCause(cause="bf16 master weights", certainty=0.97, evidence=evidence))
    if initial is not None:
        still, names = unmoved(weights, initial)
        if still >= FROZEN_SHARE:
            evidence = f"{still:.0%} of the weights still have their initial values, among them {', '.join(names[:3])}"
            found.append(LikelyCause(cause="frozen weights", certainty=0.95, evidence=evidence))
    return found
