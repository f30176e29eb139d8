"""A training step without numbers: what it would hold in memory and compute, found by running its own code.

Tensors are fake: they have shapes, types and lifetimes, but no memory, so that a model of any size is traced on any
machine in seconds.
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
    """Follows the storages of all tensors that are made while it is entered.

    Attributes:
        now: Bytes of those that are alive.
        peak: The most that were alive at once since ``restart``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it made."""
        if func is _READ:
            # A number that the program looks at, such as a loss: something finite and harmless.
            kind: torch.dtype = args[0].dtype
            return kind != torch.bool and (1.0 if kind.is_floating_point else 1)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def restart(self) -> None:
        """Forget the peak so far."""
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
    """What a piece of code would need.

    Attributes:
        kept_bytes: Held when it has ended, beyond what was held before.
        peak_bytes: The most that is alive at once, with what was held before.
    """

    kept_bytes: int
    peak_bytes: int


class Tracer:
    """Runs pieces of code one after the other; made by ``tracing``."""

    def __init__(self, live: LiveBytes) -> None:
        self._live = live

    @property
    def now(self) -> int:
        """Bytes alive."""
        return self._live.now

    def __call__(self, piece: Callable[[], object]) -> Trace:
        """Run a piece; what it returns is dropped when it is measured."""
        live, before = self._live, self._live.now
        live.restart()
        held = piece()
        trace = Trace(live.now - before, live.peak)
        del held
        return trace

    def flops(self, piece: Callable[[], object]) -> int:
        """Multiplications and additions of the piece's matrix products and convolutions.

        Apart from memory, since the counter keeps tensors alive.
        """
        with FlopCounterMode(display=False) as counter:
            piece()
        return int(counter.get_total_flops())


@contextmanager
def tracing() -> Iterator[Tracer]:
    """Inside the block every new tensor is fake, also that of a module.

    Small tables that the models remember (masks, rotations) are forgotten before and after: fake ones would spoil later
    work, real ones would be no fakes.
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
    """What ``nn.Module._apply`` does, with new parameters in the place of the old."""
    for part in module.modules() if recurse else [module]:
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(convert(weight.detach()), requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = convert(buffer)
    return module


def _forget_tables() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("infinity."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
