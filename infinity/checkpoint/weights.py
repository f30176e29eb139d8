"""Load the weights of a checkpoint into a module, strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from infinity.checkpoint.record import CheckpointError

_MOST_NAMES = 12
M = TypeVar("M", bound=nn.Module)


def build(make: Callable[[], M], tensors: Mapping[str, Tensor], *, where: str, is_shared: bool = False) -> M:
    """Build a module with these weights; memory is taken only once names and shapes are known to fit.

    Args:
        make: Function that returns the module of a configuration, with any weights.
        tensors: Tensors by the names of the module's ``state_dict()``.
        where: Name of the source in error messages.
        is_shared: Whether the module takes the tensors themselves where they have its data types, without a copy. They
            must be all that ``make`` sets.

    Raises:
        CheckpointError: Tensors are missing, unknown, of another shape, or not finite; all are named.
    """
    with torch.device("meta"):
        module = make()
    check_fit(module, tensors, where=where)
    if is_shared:
        check_finite(tensors, where=where)
        dtypes = {name: value.dtype for name, value in module.state_dict().items()}
        module.load_state_dict({name: value.to(dtypes[name]) for name, value in tensors.items()}, assign=True)
        return module
    module = make()
    load_weights(module, tensors, where=where)
    return module


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy tensors into a module of exactly these names and shapes; the module keeps its data types.

    Args:
        module: Module that receives the values.
        tensors: Tensors by the names of ``module.state_dict()``.
        where: Name of the source in error messages.

    Raises:
        CheckpointError: Tensors are missing, unknown, of another shape, or not finite; all are named.
    """
    check_fit(module, tensors, where=where)
    check_finite(tensors, where=where)
    module.load_state_dict(dict(tensors), strict=True)


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Compare names and shapes; the module may be on the meta device.

    Raises:
        CheckpointError: Tensors are missing, unknown or of another shape; all are named.
    """
    own = module.state_dict()
    problems = []
    if missing := sorted(set(own) - set(tensors)):
        problems.append(f"missing {shorten(missing)}")
    if unknown := sorted(set(tensors) - set(own)):
        problems.append(f"unknown {shorten(unknown)}")
    shapes = [
        f"{name} of shape {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(f"other shapes: {shorten(shapes)}")
    if problems:
        raise CheckpointError(
            f"{where}: these tensors are not those of a {type(module).__name__} of this configuration: "
            f"{'; '.join(problems)}. Was it saved with another bit width or size?"
        )


def check_finite(tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse weights with NaN or infinity.

    Raises:
        CheckpointError: Some tensors are not finite; they are named.
    """
    wrong = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if wrong:
        raise CheckpointError(
            f"{where}: expected finite numbers, found NaN or infinity in {shorten(wrong)}; take an earlier "
            "checkpoint or copy the file again"
        )


def _is_finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return True
    if tensor.element_size() == 1 or tensor.is_complex():  # 8-bit types support few operations
        return bool(torch.isfinite(tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)).all())
    return bool(torch.isfinite(torch.stack(tensor.aminmax())).all())  # NaN propagates into both


def shorten(names: Sequence[str]) -> str:
    """Join names; of many, only the first and the number of the others."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
