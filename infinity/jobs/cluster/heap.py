"""The C library's heap in processes that train: without its cache of small blocks.

A tensor's memory begins at a multiple of 64 bytes, so that a few bytes beside it are left over. The cache of small
blocks keeps these in use after the tensor is freed. Its place is then too small for the next tensor of the same size,
and the heap grows. Without the cache a training step takes an eighth less memory in the same time
(docs/performance.md). The library reads its settings once, when a process starts, so that they are given to workers by
their environment. Other C libraries ignore them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "GLIBC_TUNABLES"

HEAP = {VARIABLE: "glibc.malloc.tcache_count=0"}
"""Environment of processes that train."""


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
