"""Memory budgets: how much working memory a pass may take on a device, and how a batch is cut to fit it.

A pass is cut by its shapes and a fixed limit, ``WORKING_BYTES``; a device with less free memory cuts it further. So the
same batch is cut alike on all machines that have the memory.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

WORKING_BYTES = 16 * 2**30
"""Largest working memory of one pass without gradients; small enough that the last digits rarely depend on a device."""

VARIABLE = "INFINITY_MEMORY_GB"
"""Environment variable that sets the working memory of a pass in GB (10^9 bytes) instead of the device's free one."""

_SHARE = 0.8
"""Share of the free memory that a pass may plan for; the rest is for fragments and for what is not planned."""

_told: set[tuple[str, int, int]] = set()
_given: ContextVar[int | None] = ContextVar("given", default=None)


@contextmanager
def working_memory(num_bytes: int | None) -> Iterator[None]:
    """Let passes during the block take this many bytes, whatever the variable and the device say; None changes nothing.

    Args:
        num_bytes: Working memory of a pass.
    """
    token = _given.set(_given.get() if num_bytes is None else num_bytes)
    try:
        yield
    finally:
        _given.reset(token)


def working_bytes(device: torch.device, most: int | None = None) -> int:
    """Return the bytes that one pass without gradients may take on a device.

    Args:
        most: Largest budget; None for all that the device has free.

    Raises:
        ValueError: ``INFINITY_MEMORY_GB`` is not a positive number.
    """
    if (given := _given.get()) is not None:
        return given
    value = os.environ.get(VARIABLE)
    if value is None:
        budget = int(_SHARE * free_bytes(device))
        return budget if most is None else min(most, budget)
    try:
        budget = int(float(value) * 1e9)
    except (ValueError, OverflowError):
        budget = 0
    if budget <= 0:
        raise ValueError(f"{VARIABLE}: expected a positive number of GB, such as 40, got {value!r:.80}")
    return budget


def free_bytes(device: torch.device) -> int:
    """Return the memory of a device that nobody uses; on systems that do not tell, more than any batch needs."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "cpu" and sys.platform == "linux":
        return min(_available_bytes(), _container_bytes())
    return sys.maxsize


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return sys.maxsize


def _container_bytes() -> int:
    """Return what is left of the container's memory limit (cgroup 2)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return sys.maxsize
    return sys.maxsize if limit == "max" else max(0, int(limit) - int(used))


def per_pass(total: int, bytes_each: int, budget: int, *, what: str) -> int:
    """Return how many of ``total`` items a pass takes, so that passes fit the budget and are about equally large.

    At least one item; a message says so where they do not fit at once.

    Args:
        total: Number of items, at least 1.
        bytes_each: Working memory of one item.
        budget: Working memory of a pass.
        what: Name of the items in the message.

    Example:
        >>> per_pass(32, bytes_each=10, budget=100, what="pictures drawn")
        8
    """
    fitting = max(1, budget // max(1, bytes_each))
    size = -(-total // -(-total // fitting))
    key = (what, total, size)
    if size < total and key not in _told:
        _told.add(key)
        logger.info(
            "%s: %d at once of %d, since each takes about %.2f GB of a budget of %.1f GB (%s sets another)",
            what, size, total, bytes_each / 1e9, budget / 1e9, VARIABLE,
        )  # fmt: skip
    return size


def tell_bands(bytes_each: int, budget: int, *, what: str) -> None:
    """Say in the log, once per kind of item, that an item that alone does not fit the budget goes in bands of rows.

    Args:
        bytes_each: Working memory of one item in one pass.
        budget: Working memory of a pass.
        what: Name of the items in the message.
    """
    key = (what, bytes_each, 0)
    if key not in _told:
        _told.add(key)
        logger.info(
            "%s: in bands of rows, slower and equal up to rounding, since one takes about %.2f GB of a budget of "
            "%.1f GB (%s sets another)",
            what, bytes_each / 1e9, budget / 1e9, VARIABLE,
        )  # fmt: skip


def in_passes(function: Callable[[Tensor], Tensor], batch: Tensor, size: int) -> Tensor:
    """Apply a function to ``size`` items of a batch at a time, along the first axis, and join the results."""
    if size >= len(batch):
        return function(batch)
    joined: Tensor | None = None
    for start in range(0, len(batch), size):
        piece = function(batch[start : start + size])
        if joined is None:
            joined = torch.empty_like(piece[:1].expand(len(batch), *piece.shape[1:]), memory_format=_layout(piece))
        joined[start : start + len(piece)] = piece
        del piece
    assert joined is not None, "a batch has items"
    return joined


def _layout(piece: Tensor) -> torch.memory_format:
    is_last = piece.ndim == 4 and piece.is_contiguous(memory_format=torch.channels_last) and not piece.is_contiguous()
    return torch.channels_last if is_last else torch.contiguous_format
