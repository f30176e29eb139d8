"""Many workers of whom only the first exists: FSDP2 shards weights for all of them on the phantom card.

Collective operations return at once; what they would send is not seen, places, shapes and memory are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed import device_mesh
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from infinity.training.distributed.parallel import ProcessGroup

STREAMS: dict[str, Any] = {
    "Stream": lambda priority=0: torch.Stream(device="cuda"),
    "Event": lambda: torch.Event(device="cuda"),
    "current_stream": lambda device=None: torch.Stream(device="cuda"),
    "stream": lambda _: contextlib.nullcontext(),
    "current_device": lambda: 0,
}
"""Stand-ins for what ``torch.cuda`` has: a CPU build has no streams by these names, but streams of any device."""


class Beside:
    """Stream or event that writes down who waits for it."""

    def __init__(self, name: str, waits: list[str]) -> None:
        self.name, self._waits = name, waits

    def wait_stream(self, other: Beside) -> None:
        """Wait as a stream for another one."""
        self._waits.append(f"{self.name} for {other.name}")

    wait_event = wait_stream

    def record(self, stream: Beside) -> None:
        """Mark a place in a stream."""

    def synchronize(self) -> None:
        """Wait as the host."""
        self._waits.append(f"host for {self.name}")


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Give streams of the phantom card, and memory that is said to be page-locked."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor))
        for name, stand_in in STREAMS.items():
            stack.enter_context(patch.object(torch.cuda, name, stand_in))
        yield


@contextlib.contextmanager
def workers(size: int) -> Iterator[ProcessGroup]:
    """Give the group of the first of ``size`` workers; to be entered inside ``card.running()``."""

    def mesh(*args: Any, **options: Any) -> DeviceMesh:
        with unset_fake_temporarily():  # it looks ranks up in a real tensor
            return init_device_mesh(*args, **options)

    dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())  # type: ignore[no-untyped-call]
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch.object(device_mesh, "init_device_mesh", mesh))
            stack.enter_context(streams())
            yield ProcessGroup(0, size)
    finally:
        dist.destroy_process_group()
