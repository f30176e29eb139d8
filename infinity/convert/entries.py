"""Translation tables between published names of tensors and ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from infinity.checkpoint import CheckpointError, check_finite, shorten
from infinity.config import Config


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a published file and its names in our checkpoints.

    Attributes:
        published: Name in the published file.
        shape: Shape in the published file.
        ours: Our names; several share the rows in this order, so that published[0:n] is the first of them.
        constant: Function of the file's tensors that returns the value of a constant buffer, which has no names of
            ours; None for weights.
    """

    published: str
    shape: tuple[int, ...]
    ours: tuple[str, ...]
    constant: Callable[[Mapping[str, Tensor]], Tensor] | None = None


def read_entries(
    entries: Sequence[Entry], published: Mapping[str, Tensor], own: Mapping[str, tuple[int, ...]], *, where: str
) -> dict[str, Tensor]:
    """Translate published tensors to our names and shapes; data types are kept, memory is shared.

    Constant buffers may be absent, since the published loader computes them too.

    Args:
        own: Our names and shapes (``own_shapes``).
        where: Name of the source in error messages.

    Raises:
        CheckpointError: Tensors are missing, unknown, of another shape or not finite, or a constant has another value;
            all are named.
    """
    entries = [entry for entry in entries if entry.constant is None or entry.published in published]
    check_names(set(published), {entry.published for entry in entries}, where=where)
    wrong = [
        f"{entry.published} of shape {tuple(published[entry.published].shape)}, expected {entry.shape}"
        for entry in entries
        if tuple(published[entry.published].shape) != entry.shape
    ]
    if wrong:
        raise CheckpointError(f"{where}: unexpected shapes: {shorten(wrong)}")
    check_finite(published, where=where)
    ours: dict[str, Tensor] = {}
    for entry in entries:
        tensor = published[entry.published]
        if entry.constant is not None:
            _check_constant(entry, tensor, published, where)
        if not entry.ours:
            continue
        shapes = [own[name] for name in entry.ours]
        if len(shapes) == 1:
            ours[entry.ours[0]] = tensor.reshape(shapes[0])
        else:
            ours |= zip(entry.ours, tensor.split([shape[0] for shape in shapes]), strict=True)
    return ours


def write_entries(entries: Sequence[Entry], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Invert ``read_entries``, in the order of the entries; every tensor has its own memory."""
    if missing := sorted({name for entry in entries for name in entry.ours} - ours.keys()):
        raise CheckpointError(f"the checkpoint does not hold {shorten(missing)}, which its configuration asks for")
    published: dict[str, Tensor] = {}
    for entry in entries:
        if entry.ours:
            pieces = [ours[name].detach().to("cpu") for name in entry.ours]
            whole = pieces[0].clone() if len(pieces) == 1 else torch.cat(pieces)
            published[entry.published] = whole.reshape(entry.shape).contiguous()
    for entry in entries:
        if entry.constant is not None:
            published[entry.published] = entry.constant(published)
    return {entry.published: published[entry.published] for entry in entries}


def check_names(found: set[str], expected: set[str], *, where: str) -> None:
    """Raise a CheckpointError that names every missing and unknown tensor."""
    problems = []
    if missing := sorted(expected - found):
        problems.append(f"missing {shorten(missing)}")
    if unknown := sorted(found - expected):
        problems.append(f"unknown {shorten(unknown)}")
    if problems:
        raise CheckpointError(f"{where}: not the tensors of a published checkpoint: {'; '.join(problems)}")


def shape_of(published: Mapping[str, Tensor], name: str, num_axes: int, *, where: str) -> tuple[int, ...]:
    """Return the shape of a tensor from which a configuration is inferred.

    Raises:
        CheckpointError: The tensor is missing or has another number of axes.
    """
    if name not in published:
        few = shorten(sorted(published)) if published else "no tensors"
        raise CheckpointError(f"{where}: not the tensors of a published checkpoint: missing {name}; found {few}")
    shape = tuple(published[name].shape)
    if len(shape) != num_axes:
        raise CheckpointError(f"{where}: {name} has the shape {shape}, expected {num_axes} axes")
    return shape


def count_numbered(names: Iterable[str], prefix: str) -> int:
    """Count the distinct numbers n in names that begin with ``prefix``, n and a dot."""
    return len({name[len(prefix) :].split(".", 1)[0] for name in names if name.startswith(prefix)})


@lru_cache(maxsize=16)
def own_shapes(model: Callable[[Config], nn.Module], config: Config) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of our model of a configuration, without memory for values."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in model(config).state_dict().items()}


def _check_constant(entry: Entry, tensor: Tensor, published: Mapping[str, Tensor], where: str) -> None:
    assert entry.constant is not None
    expected = entry.constant(published)
    assert math.prod(entry.shape) == expected.numel()
    if not torch.equal(tensor.to(expected.dtype), expected):
        raise CheckpointError(
            f"{where}: the buffer {entry.published} does not hold its only known value, {expected.tolist()[:4]}..."
        )
