"""Count what a program would do on the phantom card: launches, bytes, operations, waits of the host, memory.

Nothing is computed. What real kernels do inside, how memory falls into fragments, and time are not seen.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from infinity import budget
from infinity.scales import ScaleSchedule
from infinity.transformer import scale_attention

CARD_BYTES = 80 * 10**9
FREE_OF_LAUNCH = frozenset(
    {"_local_scalar_dense", "device", "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk",
    "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "is_pinned", "lift_fresh",
    "new_empty", "new_empty_strided", "permute", "reshape", "resolve_conj", "select", "slice", "split",
    "split_with_sizes", "squeeze", "sym_size", "t", "transpose", "unbind", "unflatten", "unfold", "unsqueeze",
    "view", "view_as_complex", "view_as_real", "conj", "_conj"}
)  # fmt: skip
"""Operations that start no kernel: views, and memory without content."""
MATRIX = frozenset({"mm", "addmm", "bmm", "baddbmm", "_addmm_activation"})
WAITS = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"})
"""Operations for whose result the host waits."""


class Meter(TorchDispatchMode):
    """Dispatch mode that counts work on the card.

    Attributes:
        launches: Kernels by name of the operation.
        moved: Bytes that the kernels read and write.
        product_flops: Operations of matrix products and convolutions by data type.
        convolution_flops: Those of convolutions alone.
        attention_flops: Operations of fused attention by data type.
        waits: Waits of the host for the card, and copies between both, by name.
        live: Bytes of all tensors on the card.
        peak: Most bytes alive at once since the last ``restart``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches: collections.Counter[str] = collections.Counter()
        self.product_flops: collections.Counter[str] = collections.Counter()
        self.convolution_flops: collections.Counter[str] = collections.Counter()
        self.attention_flops: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self.moved = self.live = self.peak = 0
        self._known: weakref.WeakKeyDictionary[Any, list[int]] = weakref.WeakKeyDictionary()

    def restart(self) -> None:
        """Forget all counts; the peak begins at what is alive."""
        flops = (self.product_flops, self.convolution_flops, self.attention_flops)
        for counts in (self.launches, *flops, self.waits):
            counts.clear()
        self.moved, self.peak = 0, self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation on its fake tensors and count it."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes again with this worker's rows
        name = func._schema.name.split("::")[1]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name == "_local_scalar_dense":
            self.waits[name] += given[0].device.type == "cuda"
            kind = given[0].dtype
            return True if kind == torch.bool else 1.0 if kind.is_floating_point else 1  # "all are finite" holds
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for tensor in made:
            self._see(tensor)
        places = {tensor.device.type for tensor in given + made}
        if "cuda" not in places:
            return result
        if name in WAITS or (len(places) > 1 and name in ("_to_copy", "copy_")):
            self.waits[name] += 1
        if name.rstrip("_") not in FREE_OF_LAUNCH and name not in FREE_OF_LAUNCH:
            self._launch(name, given, made)
        return result

    def _launch(self, name: str, given: list[Tensor], made: list[Tensor]) -> None:
        self.launches[name] += 1
        new = [tensor for tensor in made if not any(tensor is each for each in given)]
        self.moved += sum(t.numel() * t.element_size() for t in given + new if t.device.type == "cuda")
        if name in MATRIX:
            left, right = [tensor for tensor in given if tensor.ndim >= 2][-2:]
            self.product_flops[_short(left.dtype)] += 2 * left.numel() * right.shape[-1]
        elif name == "convolution":
            image, weight = given[:2]
            taps = weight.numel() // weight.shape[0]
            number = 2 * made[0].numel() * taps
            self.product_flops[_short(image.dtype)] += number
            self.convolution_flops[_short(image.dtype)] += number

    def _see(self, tensor: Tensor) -> None:
        if tensor.device.type != "cuda" or isinstance(tensor, DTensor):
            return
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = self._known[storage] = [0]
        self._grow(size, storage.nbytes())
        weakref.finalize(storage, self._grow, size, 0)

    def resized(self, storage: torch.UntypedStorage, num_bytes: int) -> None:
        """Count a storage at its new size; FSDP2 empties and fills the storages of gathered weights."""
        if storage in self._known:
            self._grow(self._known[storage], num_bytes)

    def _grow(self, size: list[int], num_bytes: int) -> None:
        self.live += num_bytes - size[0]
        size[0] = num_bytes
        self.peak = max(self.peak, self.live)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _OneKernel(torch.autograd.Function):
    """Fused attention: one launch forward, one backward, and only inputs, output and row sums in memory."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output, sums = query.new_empty(query.shape), query.new_empty(query.shape[:3], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums)
        return output.zero_()  # one launch

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, *_ = ctx.saved_tensors
        return query.new_empty(query.shape).zero_(), key.new_empty(key.shape), value.new_empty(value.shape)


def _share(schedule: ScaleSchedule) -> float:
    """Return the share of pairs of tokens that the block-causal mask allows."""
    pairs = sum((span.stop - span.start) * span.stop for span in schedule.spans)
    return float(pairs / schedule.num_tokens**2)


@contextmanager
def metered() -> Iterator[Meter]:
    """Give a meter; inside, attention is one kernel, and a card of 80 GB tells how much of it is free.

    To be entered inside ``card.running()``.
    """
    meter = Meter()

    def attention(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        kind = query.device.type
        if torch.is_autocast_enabled(kind):
            query, key, value = (each.to(torch.get_autocast_dtype(kind)) for each in (query, key, value))
        meter.attention_flops[_short(query.dtype)] += 4 * query.numel() * key.shape[2]
        result: Tensor = _OneKernel.apply(query, key, value)  # type: ignore[no-untyped-call]
        return result

    def free(device: torch.device) -> int:
        return CARD_BYTES - meter.live

    def flex(query: Tensor, key: Tensor, value: Tensor, block_mask: float, scale: float) -> Tensor:
        meter.attention_flops[_short(query.dtype)] += int(4 * query.numel() * key.shape[2] * block_mask)
        result: Tensor = _OneKernel.apply(query, key, value)  # type: ignore[no-untyped-call]
        return result

    resize = torch.UntypedStorage.resize_

    def resized(storage: torch.UntypedStorage, num_bytes: int) -> Any:
        meter.resized(storage, num_bytes)
        return resize(storage, num_bytes)

    with (
        patch.object(F, "scaled_dot_product_attention", attention),
        patch.object(scale_attention, "_flex", lambda device: flex),
        patch.object(scale_attention, "_blocks", lambda schedule, device: _share(schedule)),
        patch.object(budget, "free_bytes", free),
        patch.object(torch.UntypedStorage, "resize_", resized),
        meter,
    ):
        yield meter
