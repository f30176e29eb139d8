"""Check the name of a device against this machine."""

from __future__ import annotations

import torch


def check_device(name: str) -> str:
    """Return the name of a device, if this machine has it.

    Raises:
        ValueError: The name is not that of a device, or this machine has no such device.
    """
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
