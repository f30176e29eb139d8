"""Memory of the entropy penalty over the number of bits d: all 2**d codes at once (LFQ) against bit by bit (BSQ)."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

import torch

from infinity.data.memory import status_bytes
from infinity.tokenizer.quantizer import MAX_BRUTE_FORCE_BITS, brute_force_entropies, factorised_entropies

POSITIONS = 256
"""Positions of one picture of 256 px at stride 16."""
ALL_CODES_TENSORS, BITWISE_TENSORS = 5, 7
"""Tensors of the largest size that are alive at once in forward and backward pass: logarithm, probability, products and
gradients over all codes of all positions; and the like over all bits of all positions."""


MEASURED_VALUES = 2**23
"""Numbers of the largest tensor of a measurement, at least: 32 MiB."""


@dataclass(frozen=True)
class Point:
    """Memory at one d, in MiB; measured is None where it was not tried."""

    num_bits: int
    calculated: float
    measured: float | None


def all_codes(num_bits: int, *, measure: bool) -> Point:
    """Return the soft assignment to every one of 2**d codes."""
    calculated = ALL_CODES_TENSORS * POSITIONS * 2.0**num_bits * 4 / 2**20
    return Point(num_bits, calculated, peak_mib(num_bits, exact=True) if measure else None)


def bitwise(num_bits: int, *, measure: bool) -> Point:
    """Return the soft assignment of every bit by itself."""
    calculated = BITWISE_TENSORS * POSITIONS * num_bits * 4 / 2**20
    return Point(num_bits, calculated, peak_mib(num_bits, exact=False) if measure else None)


def peak_mib(num_bits: int, *, exact: bool) -> float:
    """Return the most memory that the two entropies and their gradient take beyond what was there, for one picture.

    It is counted by the system, in pages: so small values are measured on many pictures and divided, since all large
    tensors grow with the positions.

    Raises:
        ValueError: More bits than the penalty over all codes takes.
        OSError: No Linux, where a process may ask for its own peak.
    """
    entropies = brute_force_entropies if exact else factorised_entropies
    pictures = max(1, MEASURED_VALUES // (POSITIONS * (2**num_bits if exact else num_bits)))
    unit = torch.nn.functional.normalize(torch.randn(pictures, num_bits, 16, 16), dim=1).requires_grad_()

    def once() -> None:
        sure, spread = entropies(unit, 100.0, "lfq" if exact else "bsq")
        (sure - spread).backward()
        unit.grad = None

    if num_bits < MAX_BRUTE_FORCE_BITS:
        once()  # what is made once and kept does not count
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that the allocator kept would be used again without being counted
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    once()
    return max(0.0, _status("VmHWM") - before) / pictures


def _status(name: str) -> float:
    return status_bytes(name) / 2**20
