"""Copies of a GPU's tensors in memory of the host, made while the GPU goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def _nothing() -> None:
    """Wait for nothing: the copies were made at once."""


@dataclass(frozen=True, slots=True)
class HostCopies:
    """Copies that a GPU may still be making.

    Attributes:
        tensors: Copies by name; complete once ``wait`` has returned.
        wait: Lets the calling thread wait for the copies.
        hold: Lets what is started on the GPU from now on wait for the copies; to be called before an original changes.
    """

    tensors: dict[str, Tensor]
    wait: Callable[[], None] = _nothing
    hold: Callable[[], None] = _nothing


def host_copies(originals: Mapping[str, Tensor]) -> HostCopies:
    """Copy tensors to memory of the CPU.

    Those of a GPU are copied on a stream of its own into page-locked memory, so that neither the calling thread nor
    the next passes on the GPU wait for them. Others are copied before this returns.
    """
    on_gpu = {name: tensor for name, tensor in originals.items() if tensor.device.type == "cuda"}
    copies = {name: tensor.to("cpu", copy=True) for name, tensor in originals.items() if name not in on_gpu}
    if not on_gpu:
        return HostCopies(copies)
    (device,) = {tensor.device for tensor in on_gpu.values()}  # a worker has one GPU
    beside, made = torch.cuda.Stream(device), torch.cuda.Event()
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        for name, tensor in on_gpu.items():
            copies[name] = _page_locked(tensor).copy_(tensor, non_blocking=True)
        made.record(beside)

    def wait() -> None:
        made.synchronize()
        on_gpu.clear()  # until now the originals must not be freed

    return HostCopies(copies, wait, lambda: torch.cuda.current_stream(device).wait_event(made))


def _page_locked(tensor: Tensor) -> Tensor:
    """Return memory of the CPU for a tensor that a GPU writes by itself."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
