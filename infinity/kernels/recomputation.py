"""Cheap tensors that the backward pass computes again, where autograd would keep them.

Norms, modulations and small products of a transformer block cost little to compute and as much to keep as all else.
The plain form keeps them. The second computation runs the same operations on the same numbers, so that no bit changes.
Start with ``Recomputation``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinity.kernels.switch import uses_fast

LARGE_BYTES = 2**20
"""Size of a block's input from which on memory is worth 4 % of the seconds of a step."""


class _Recipe:
    """How one tensor is computed again; its value is held between its first and its last use in a backward pass.

    Args:
        compute: Function without side effects.
        sources: Arguments of the function; tensors among them are kept, recipes are computed again.
    """

    def __init__(self, compute: Callable[..., Tensor], sources: tuple[Any, ...]) -> None:
        self._compute = compute
        self._sources = sources
        self._autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        self._value: Tensor | None = None
        self._num_uses = 0

    def value(self) -> Tensor:
        """Return the tensor, without gradient."""
        if self._value is None:
            sources = [each.value() if isinstance(each, _Recipe) else each for each in self._sources]
            enabled, dtype = self._autocast
            with torch.no_grad(), torch.autocast("cpu", dtype, enabled=enabled):
                self._value = self._compute(*sources)
        return self._value

    def expect(self) -> _Recipe:
        """Count one use of the value in the backward pass."""
        self._num_uses += 1
        return self

    def use(self) -> Tensor:
        """Return the value for one of the uses; the last one lets it go."""
        value = self.value()
        self._num_uses -= 1
        if self._num_uses <= 0:  # fewer than none where a graph is walked through twice
            self._value = None
        return value


class _Kept:
    """Stands in autograd's graph for a view of a tensor that is computed again."""

    def __init__(self, recipe: _Recipe, view: Tensor) -> None:
        self._recipe = recipe.expect()
        self._layout = view.size(), view.stride(), view.storage_offset()

    def tensor(self) -> Tensor:
        return self._recipe.use().as_strided(*self._layout)


class Recomputation:
    """Keep the sources of some tensors in place of the tensors, in all operations within a ``with`` block.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> with Recomputation() as again:
        ...     y = again.run(torch.exp, x)
        ...     z = y.square().sum()  # the square would keep y; here it keeps how y follows from x
        >>> z.backward()
        >>> x.grad is not None
        True
    """

    def __init__(self) -> None:
        self._recipes: dict[int, tuple[Tensor, _Recipe]] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)
        self._recipes.clear()

    def run(self, compute: Callable[..., Tensor], *sources: Any) -> Tensor:
        """Return ``compute(*sources)``; operations from now on keep a recipe of it.

        Args:
            compute: Function without side effects that gives the same bits when it is called again.
            sources: Arguments of the function, of which the result may be a view. Tensors that are results of ``run``
                themselves are computed again too.
        """
        known = tuple(self._source(each) if isinstance(each, Tensor) else each for each in sources)
        result = compute(*sources)
        if any(isinstance(each, Tensor) and _memory(each) == _memory(result) for each in sources):
            return result  # a view
        # The tensor is held as long as its memory is its name, so that no later one gets the same name.
        self._recipes[_memory(result)] = result, _Recipe(compute, known)
        return result

    def _source(self, tensor: Tensor) -> Tensor | _Recipe:
        found = self._recipes.get(_memory(tensor))
        return found[1] if found is not None and found[0] is tensor else tensor.detach()

    def _pack(self, tensor: Tensor) -> Tensor | _Kept:
        found = self._recipes.get(_memory(tensor))
        return tensor if found is None or found[0].dtype != tensor.dtype else _Kept(found[1], tensor)

    @staticmethod
    def _unpack(packed: Tensor | _Kept) -> Tensor:
        return packed.tensor() if isinstance(packed, _Kept) else packed


def _memory(tensor: Tensor) -> int:
    name: int = tensor.untyped_storage()._cdata
    return name


def again_if_it_saves(x: Tensor, *, recomputed: bool) -> Recomputation | None:
    """Return a recomputation for a large pass with gradients on a CPU; None elsewhere, or where it is turned off.

    Args:
        x: Input of the block.
        recomputed: Whether the backward pass computes everything again anyway (activation checkpointing).
    """
    if recomputed or torch.compiler.is_compiling() or not torch.is_grad_enabled() or x.device.type != "cpu":
        return None  # a compiler chooses itself what it keeps, and does not know the size of a batch
    return Recomputation() if x.nbytes >= LARGE_BYTES and uses_fast(x, "recomputation") else None


def run(again: Recomputation | None, compute: Callable[..., Tensor], *sources: Any) -> Tensor:
    """Return ``compute(*sources)``, to be computed again where there is a recomputation."""
    return compute(*sources) if again is None else again.run(compute, *sources)


def layer_norm(again: Recomputation | None, layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """Apply a layer norm, to be computed again.

    Its weights are remembered as tensors: at the time of the backward pass the layer may hold its shard alone (FSDP).
    """
    return run(again, F.layer_norm, x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
