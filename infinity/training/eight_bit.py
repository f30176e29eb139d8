"""Running means of AdamW in 8 bits a number, by the library torchao: what the loop and its stored states need of them.

A mean is one byte a number and one scale for each 256 of them (arXiv:2110.02861). Small weights keep float32 means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_PARTS = ("codes", "scale")


def eight_bit_adamw(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    """AdamW with running means of 8 bits.

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
    """Running means of one weight by name, those of 8 bits as the two plain tensors that they consist of."""
    for slot, value in sorted(slots.items()):
        if all(hasattr(value, part) for part in _PARTS):
            yield from ((f"{slot}.{part}", getattr(value, part)) for part in _PARTS)
        else:
            yield slot, value


def closed(slots: Mapping[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """The inverse of ``opened``: plain means as they are, pairs of plain tensors as means of 8 bits."""
    found: dict[str, Tensor] = {}
    for name, value in slots.items():
        slot, _, part = name.partition(".")
        if not part:
            found[slot] = value
        elif part == "codes":
            found[slot] = _joined(value, slots[f"{slot}.scale"], weight, signed=not slot.endswith("_sq"))
    return found


def _joined(codes: Tensor, scale: Tensor, weight: Tensor, *, signed: bool) -> Tensor:
    from torchao.optim.subclass_8bit import OptimState8bit

    size = codes.numel() // scale.numel()
    mean: Any = OptimState8bit.zeros(weight.shape, signed, size, weight.device)
    mean.codes.copy_(codes)
    mean.scale.copy_(scale)
    joined: Tensor = mean
    return joined
