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
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from infinity.training.distributed import sharding
from infinity.training.distributed.parallel import ProcessGroup


@contextlib.contextmanager
def workers(size: int) -> Iterator[ProcessGroup]:
    """Give the group of the first of ``size`` workers; to be entered inside ``card.running()``."""

    def mesh(*args: Any, **options: Any) -> DeviceMesh:
        with unset_fake_temporarily():  # it looks ranks up in a real tensor
            return init_device_mesh(*args, **options)

    # A CPU build of torch has no streams of CUDA by this name, but streams of any device.
    stand_ins: dict[str, Any] = {
        "Stream": lambda priority=0: torch.Stream(device="cuda"),
        "Event": lambda: torch.Event(device="cuda"),
        "current_stream": lambda: torch.Stream(device="cuda"),
        "stream": lambda _: contextlib.nullcontext(),
        "current_device": lambda: 0,
    }
    dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())  # type: ignore[no-untyped-call]
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch.object(sharding, "init_device_mesh", mesh))
            stack.enter_context(patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor))
            for name, stand_in in stand_ins.items():
                stack.enter_context(patch.object(torch.cuda, name, stand_in))
            yield ProcessGroup(0, size)
    finally:
        dist.destroy_process_group()
