"""Choose between the plain formulas and their fast twins.

The fast twins give the same numbers up to rounding. ``INFINITY_KERNELS=plain`` in the environment, or the context
manager ``use_kernels("plain")``, turns them off everywhere. ``INFINITY_KERNELS=measured`` takes for each kernel what a
measurement on this processor found faster (``infinity.kernels.measured``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

Kernels = Literal["plain", "fast"]
Kernel = Literal["drawing_products", "feed_forward", "recomputation", "straight_through", "unit_rotation", "upsample"]

KERNELS: tuple[Kernel, ...] = get_args(Kernel)

VARIABLE = "INFINITY_KERNELS"
"""Environment variable that chooses for a whole process and its workers; "fast" where it is not set."""

_SETTINGS = (*get_args(Kernels), "measured")


def _from_environment() -> str:
    value = os.environ.get(VARIABLE, "fast")
    if value not in _SETTINGS:
        raise ValueError(f"{VARIABLE}: expected plain, fast or measured, got {value!r}")
    return value


_chosen: list[str] = [_from_environment()]


@contextmanager
def use_kernels(kernels: Kernels) -> Iterator[None]:
    """Use plain or fast kernels within a ``with`` block, in all threads of this process."""
    before, _chosen[0] = _chosen[0], kernels
    try:
        yield
    finally:
        _chosen[0] = before


def uses_fast(x: Tensor, kernel: Kernel) -> bool:
    """Return whether the fast twin of a kernel serves this tensor.

    A compiler fuses the plain formulas better by itself, so compiled code always takes those. A measurement speaks for
    plain tensors on the CPU alone; others take the fast twin.
    """
    if _chosen[0] == "plain" or torch.compiler.is_compiling() or x.device.type not in ("cpu", "cuda"):
        return False
    if _chosen[0] == "fast" or x.device.type != "cpu" or type(x) is not Tensor:
        return True
    from infinity.kernels.measured import choices

    return choices()[kernel] == "fast"
