"""Memory of processes that train: the C library's heap without its cache of small blocks, a GPU's in segments.

Without that cache a training step takes an eighth less memory in the same time (docs/performance.md). The probable
reason: a tensor's memory begins at a multiple of 64 bytes, so that a few bytes beside it are left over. The cache keeps
these in use after the tensor is freed. Its place is then too small for the next tensor of the same size. The library
reads its settings once, when a process starts, so that they are given to workers by their environment. Other C
libraries ignore them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

VARIABLE = "GLIBC_TUNABLES"

HEAP = {VARIABLE: "glibc.malloc.tcache_count=0"}
"""Environment of processes that train."""

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Names by which torch reads settings of its allocator; both are read by all versions that are supported."""

SEGMENTS = "expandable_segments:True"
"""Setting with which freed memory of a GPU serves requests of other sizes, such as those of another aspect ratio."""


@contextmanager
def heap_of_workers() -> Iterator[None]:
    """Start processes inside the block with the heap of training workers; a setting of the user's stays."""
    before = os.environ.get(VARIABLE)
    if before is None:
        os.environ.update(HEAP)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)


def expand_segments(device: torch.device) -> bool:
    """Let a GPU's memory grow in segments that can be extended, in this process; a setting of the user's stays.

    Returns:
        Whether this set it.
    """
    if device.type != "cuda" or any(os.environ.get(name) for name in ALLOCATOR_VARIABLES):
        return False
    import torch

    os.environ[ALLOCATOR_VARIABLES[0]] = SEGMENTS  # for what this process starts
    set_now: Any = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    (set_now or torch.cuda.memory._set_allocator_settings)(SEGMENTS)  # a torch that is loaded reads no variable again
    return True
