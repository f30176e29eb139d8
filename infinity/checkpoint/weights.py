"""Weights of a checkpoint into a module, strictly."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from infinity.checkpoint.record import CheckpointError

_MOST_NAMES = 12


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy tensors into a module of exactly these names and shapes; the module keeps its types.

    Args:
        module: Receives the values.
        tensors: By the names of ``module.state_dict()``.
        where: Name of their source in error messages.

    Raises:
        CheckpointError: Missing, unknown or differently shaped tensors; all are named.
    """
    own = module.state_dict()
    problems = []
    if missing := sorted(set(own) - set(tensors)):
        problems.append(f"missing {_names(missing)}")
    if unknown := sorted(set(tensors) - set(own)):
        problems.append(f"unknown {_names(unknown)}")
    shapes = [
        f"{name} of shape {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(f"other shapes: {_names(shapes)}")
    if problems:
        raise CheckpointError(
            f"{where}: these tensors are not those of a {type(module).__name__} of this configuration: "
            f"{'; '.join(problems)}. Was it saved with another bit width or size?"
        )
    module.load_state_dict(dict(tensors), strict=True)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
