"""Data-parallel training in plain torch.distributed: the micro-batches of each process, and sums of gradients.

Decision 8 says why it is not DistributedDataParallel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_ELEMENTS = 16 * 2**20
"""Elements per all-reduce, 64 MiB of float32: few calls, and no second copy of a large model's gradients."""

S = TypeVar("S", bound=Sequence[Any])


def micro_batch_of(items: S, number: int, num_parts: int) -> S:
    """Return one micro-batch of a batch: every ``num_parts``-th item from ``number`` on.

    The micro-batches do not depend on the process that computes them, so that another number of processes trains on the
    same ones (decision 8).
    """
    return items[number::num_parts]  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes that train one model together; a single process is a group of one and never communicates.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        group: Communicator of torch; None is torch's default process group.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def current(cls) -> ProcessGroup:
        """Return torch's default process group, or a group of one where there is none."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(rank=dist.get_rank(), size=dist.get_world_size())

    def apart(self) -> ProcessGroup:
        """Return the same processes over a gloo communicator of their own, for a thread beside the training.

        Collective calls of two threads over one communicator would mix. All processes must call this together.
        """
        return self if self.size == 1 else replace(self, group=dist.new_group(backend="gloo"))

    def all_come(self, patience_s: float) -> bool:
        """Return whether every other process calls this within ``patience_s`` seconds; for a group of ``apart``."""
        if self.size == 1:
            return True
        arrival = dist.all_reduce(torch.zeros(1), group=self.group, async_op=True)
        try:
            arrival.wait(timedelta(seconds=patience_s))
        except RuntimeError:  # too late, or one of them is gone
            return False
        return True

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and draws the samples."""
        return self.rank == 0

    def micro_batches(self, num_parts: int) -> range:
        """Return the numbers of this process's micro-batches of every batch; all processes together have all."""
        return range(self.rank, num_parts, self.size)

    def passes(self, num_parts: int) -> range:
        """Return the numbers of passes where all processes make equally many.

        These are the process's micro-batches and, where others have one more, a number that no batch has.
        """
        return range(self.rank, -(-num_parts // self.size) * self.size, self.size)

    def sum_gradients(self, weights: Iterable[Tensor], also: Tensor) -> None:
        """Replace the gradients, and ``also``, by their sums over the group. Every weight must have a gradient."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        pending = [dist.all_reduce(also, group=self.group, async_op=True)]
        returns: list[tuple[Tensor, list[Tensor]]] = []
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            pending.append(dist.all_reduce(flat, group=self.group, async_op=True))
            returns.append((flat, bucket))
        for work in pending:
            work.wait()
        for flat, bucket in returns:
            pieces = torch.split(flat, [gradient.numel() for gradient in bucket])
            torch._foreach_copy_(bucket, [p.view_as(g) for p, g in zip(pieces, bucket, strict=True)])

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the group, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values


def _buckets(gradients: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and size + gradient.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket
