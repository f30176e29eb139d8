"""Trace memory and operations of a training step by running its own code on fake tensors (decision 32).

Fake tensors have shapes, types and lifetimes, but no memory, so that a model of any size is traced on any machine in
seconds.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_READ = torch.ops.aten._local_scalar_dense.default


class LiveBytes(TorchDispatchMode):
    """Dispatch mode that counts the bytes of all tensors created inside it.

    Attributes:
        peak: Most bytes alive at once since ``restart``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count the tensors that it returns."""
        if func is _READ:
            # The program reads a number from a tensor, such as a loss; a fake tensor has none, so give a harmless one.
            kind: torch.dtype = args[0].dtype
            return kind != torch.bool and (1.0 if kind.is_floating_point else 1)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def restart(self) -> None:
        """Reset the peak to the bytes alive now."""
        self.peak = self.now

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._alive:
            return
        num_bytes = storage.nbytes()

        def gone(_: object) -> None:
            del self._alive[key]
            self.now -= num_bytes

        self._alive[key] = weakref.ref(storage, gone)
        self.now += num_bytes
        self.peak = max(self.peak, self.now)


@dataclass(frozen=True, slots=True)
class Trace:
    """Memory of a piece of code.

    Attributes:
        kept_bytes: Bytes alive after it, beyond those before it.
        peak_bytes: Most bytes alive at once, including those before it.
    """

    kept_bytes: int
    peak_bytes: int


class Tracer:
    """Runs and measures functions; made by ``tracing``."""

    def __init__(self, live: LiveBytes) -> None:
        self._live = live

    @property
    def now(self) -> int:
        """Bytes of all tensors alive."""
        return self._live.now

    def __call__(self, piece: Callable[[], object]) -> Trace:
        """Run a function, measure its memory while its result is alive, and drop the result."""
        live, before = self._live, self._live.now
        live.restart()
        held = piece()
        trace = Trace(live.now - before, live.peak)
        del held
        return trace

    def flops(self, piece: Callable[[], object]) -> int:
        """Return the floating-point operations of a function's matrix products and convolutions.

        Separate from memory, since the counter keeps tensors alive.
        """
        with FlopCounterMode(display=False) as counter:
            piece()
        return int(counter.get_total_flops())


@contextmanager
def tracing() -> Iterator[Tracer]:
    """Make every new tensor inside the block fake, also those of modules.

    Cached tables of the models (masks, rotations) are dropped before and after, so that no fake table leaks into real
    work and no real table into the trace.
    """
    _forget_tables()
    live, apply = LiveBytes(), nn.Module._apply
    nn.Module._apply = _replace  # type: ignore[method-assign]  # torch's own cannot convert fake parameters in place
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), live:
            yield Tracer(live)
    finally:
        nn.Module._apply = apply  # type: ignore[method-assign]
        _forget_tables()


def _replace(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Do what ``nn.Module._apply`` does, with new parameters in place of the old."""
    for each in module.modules() if recurse else [module]:
        for name, weight in each._parameters.items():
            if weight is not None:
                each._parameters[name] = nn.Parameter(convert(weight.detach()), requires_grad=weight.requires_grad)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = convert(buffer)
    return module


def _forget_tables() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("infinity."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
