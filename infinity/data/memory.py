"""Memory of this process: what it has, a cap on what it may claim, and what it gives back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORKER_BYTES = 704 * 2**20
"""Limit of a worker's memory in the data stage by default, with the interpreter and its libraries."""

LEAST_PICTURE_BYTES = 320 * 2**20
"""Memory that decoding one picture may need, however few pixels are allowed."""

_FILE_BYTES = 2**26
_BAD_ROWS_BYTES = 2**25


def picture_bytes(max_pixels: int) -> int:
    """Return the most memory that decoding one picture may need where pictures have up to ``max_pixels``.

    That is four bytes for each pixel, as many for a turned copy, and 64 MB for the file.

    Example:
        >>> picture_bytes(64_000_000) // 2**20, picture_bytes(200_000_000) // 2**20, picture_bytes(1) // 2**20
        (552, 1589, 320)
    """
    return max(LEAST_PICTURE_BYTES, 8 * max_pixels + _FILE_BYTES)


def slice_bytes(max_pixels: int) -> int:
    """Return the memory that a worker may claim for one slice on top of its present use: a picture, and bad rows."""
    return picture_bytes(max_pixels) + _BAD_ROWS_BYTES


@contextmanager
def capped_memory(num_bytes: int) -> Iterator[None]:
    """Let this process claim at most ``num_bytes`` more inside the block; a larger claim raises MemoryError.

    The last line of defence: what a header tells is refused before. The cap is the kernel's (RLIMIT_DATA, private
    memory that can be written), so it holds for decoders in C as well; it is lifted at the end of the block. Elsewhere
    than on Linux nothing is capped.

    Args:
        num_bytes: Memory beyond the present use, at least 1.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # not on every system

    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = status_bytes("VmData") + num_bytes
    allowed = [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *allowed]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def give_back() -> None:
    """Give the system back what this process has freed: between steps that each need much, of which little stays.

    Arrow's pool and the C library keep freed memory for later; where the next step needs it in other pieces, the two
    add up. Elsewhere than on Linux only the pool's is given back.
    """
    import pyarrow as pa  # whoever decodes a picture alone loads no table library

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # only the GNU library has it
        libc.malloc_trim(0)


def status_bytes(name: str) -> int:
    """Return a size of this process from Linux's ``/proc/self/status``, such as ``VmHWM``, the largest so far."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status: expected a line {name}, found none")
