"""Memory for what is read as a whole: a file that cannot fit is refused before the machine is out of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from infinity.storage.errors import StorageError

ASKED_FROM_BYTES = 256 * 2**20
"""Smaller reads are not compared with the memory of the machine."""


@contextmanager
def room_for(place: str, num_bytes: int) -> Iterator[None]:
    """Bound what is read inside the block.

    Args:
        place: Path or URI, for the message.
        num_bytes: Bytes that will be held in memory.

    Raises:
        StorageError: The machine has less memory in all, or this process may not have so much.
    """
    if num_bytes > ASKED_FROM_BYTES and num_bytes > (memory := machine_bytes()):
        raise StorageError(f"cannot read {place}: {num_bytes:,} bytes, and this machine has {memory:,} bytes of memory")
    try:
        yield
    except MemoryError as error:
        raise StorageError(f"cannot read {place}: no memory for its {num_bytes:,} bytes") from error


def machine_bytes() -> int:
    """Return the memory of the machine, used or not."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
