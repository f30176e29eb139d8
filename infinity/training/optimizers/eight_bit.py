"""AdamW with moments of 8 bits per number (library torchao), and their form in stored states.

A moment has one byte per number and one scale per 256 numbers (arXiv:2110.02861). Small weights keep float32 moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_TENSORS = ("codes", "scale")


def eight_bit_adamw(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    """Return AdamW with moments of 8 bits.

    Raises:
        ImportError: The library torchao is not installed.
    """
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise ImportError(
            "optimizer.states '8bit' needs the library torchao, which is not installed: pip install "
            "'infinity-t2i[eight-bit]'"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, **settings)
    return optimizer


def opened(slots: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the moments of one weight by name; an 8-bit moment as its two plain tensors, codes and scales."""
    for slot, value in sorted(slots.items()):
        if all(hasattr(value, name) for name in _TENSORS):
            yield from ((f"{slot}.{name}", getattr(value, name)) for name in _TENSORS)
        else:
            yield slot, value


def closed(slots: Mapping[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Invert ``opened``: plain moments stay as they are, pairs of plain tensors become 8-bit moments."""
    found: dict[str, Tensor] = {}
    for name, value in slots.items():
        slot, _, tensor = name.partition(".")
        if not tensor:
            found[slot] = value
        elif tensor == "codes":
            found[slot] = _joined(value, slots[f"{slot}.scale"], weight, signed=not slot.endswith("_sq"))
    return found


def _joined(codes: Tensor, scale: Tensor, weight: Tensor, *, signed: bool) -> Tensor:
    from torchao.optim.subclass_8bit import OptimState8bit

    size = codes.numel() // scale.numel()
    moment: Any = OptimState8bit.zeros(weight.shape, signed, size, weight.device)
    moment.codes.copy_(codes)
    moment.scale.copy_(scale)
    joined: Tensor = moment
    return joined
