"""Choose between the plain formulas and their fast twins.

The fast twins give the same numbers up to rounding. ``INFINITY_KERNELS=plain`` in the environment, or the context
manager ``use_kernels("plain")``, turns them off everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

Kernels = Literal["plain", "fast"]

VARIABLE = "INFINITY_KERNELS"
"""Environment variable that chooses for a whole process and its workers; "fast" where it is not set."""


def _from_environment() -> Kernels:
    value = os.environ.get(VARIABLE, "fast")
    for known in get_args(Kernels):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args gives Any
    raise ValueError(f"{VARIABLE}: expected plain or fast, got {value!r}")


_chosen: list[Kernels] = [_from_environment()]


@contextmanager
def use_kernels(kernels: Kernels) -> Iterator[None]:
    """Use plain or fast kernels within a ``with`` block, in all threads of this process."""
    before, _chosen[0] = _chosen[0], kernels
    try:
        yield
    finally:
        _chosen[0] = before


def uses_fast(x: Tensor) -> bool:
    """Return whether the fast twin serves this tensor.

    A compiler fuses the plain formulas better by itself, so compiled code always takes those.
    """
    return _chosen[0] == "fast" and not torch.compiler.is_compiling() and x.device.type in ("cpu", "cuda")
