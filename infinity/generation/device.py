"""Check the name of a device against this machine, and compute there whatever else the process has set."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

logger = logging.getLogger(__name__)
_process = os.getpid()


def check_device(name: str | None) -> str:
    """Return the name of a device, if this machine has it.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps"; None is the fastest that this machine has.

    Raises:
        ValueError: The name is not that of a device, or this machine has no such device.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device: expected cpu, cuda, cuda:<number> or mps, got {name!r:.80}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = f"has {count} of them" if count else "has none that PyTorch can use"
            raise ValueError(f"device: {name!r:.80} asks for a CUDA device, but this machine {there}; use 'cpu'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device: {name!r:.80} asks for a device that this machine does not have; use 'cpu'")
    return name


def best_device() -> str:
    """Return the fastest kind of device that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def own_defaults() -> Iterator[None]:
    """Compute with torch's own defaults during the block, whatever the caller has set for other models.

    A default data type or device, autocast, and inference mode would change bits, or leave tensors in caches that
    fail later. The default data type belongs to the whole process: while one that the caller has set is away, other
    threads miss it too.
    """
    _survive_fork()
    dtype = torch.get_default_dtype()
    with ExitStack() as restore:
        if torch.is_inference_mode_enabled():
            restore.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                restore.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            restore.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            restore.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


def _survive_fork() -> None:
    """Compute on one thread in a process that was forked: OpenMP would wait for threads that it has no more."""
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        torch.set_num_threads(1)
        logger.warning("this process was forked, and computes on one thread; one that is spawned can use more")
