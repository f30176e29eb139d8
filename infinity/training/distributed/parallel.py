"""Data parallel training in plain torch.distributed: who works on which samples, and how gradients come together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_ELEMENTS = 16 * 2**20
"""Gradients travel in pieces of 64 MiB of float32: few enough calls, and no second copy of a large model."""

S = TypeVar("S", bound=Sequence[Any])


def micro_batch_of(items: S, part: int, num_parts: int) -> S:
    """One of the parts that a batch is dealt into; they are disjoint and together everything.

    What a part holds does not depend on who works it off, so that another number of processes trains on the same parts.
    """
    return items[part::num_parts]  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes that train one model together; a single process is a team of one and never communicates.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        group: The connection they speak over; None is the one that all of PyTorch uses.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def current(cls) -> ProcessGroup:
        """The team of the default process group, or a team of one where there is none."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(rank=dist.get_rank(), size=dist.get_world_size())

    def apart(self) -> ProcessGroup:
        """The same team over a connection of its own, for a thread beside the training. All must ask for it together.

        Collective calls of two threads over one connection would mix.
        """
        return self if self.size == 1 else replace(self, group=dist.new_group(backend="gloo"))

    def all_come(self, patience_s: float) -> bool:
        """Whether every other process calls this too, each within so many seconds; over a connection of ``apart``."""
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

    def parts(self, num_parts: int) -> range:
        """Numbers of this process's parts of every batch; the parts of all processes are all parts."""
        return range(self.rank, num_parts, self.size)

    def passes(self, num_parts: int) -> range:
        """Numbers of this process's passes where all make as many: its parts, then perhaps one that no batch has."""
        return range(self.rank, -(-num_parts // self.size) * self.size, self.size)

    def sum_gradients(self, weights: Iterable[Tensor], also: Tensor) -> None:
        """Replace the gradients, and ``also``, by their sums over the team. Every weight must have a gradient."""
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
        """The sum over the team, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of their rank."""
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
