"""Work of an evaluation on actors of the cluster: dealt out one by one, added up in a fixed order (decision 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from infinity.evaluation.benchmark import EvalContext, EvalTarget, WorkItem
from infinity.evaluation.networks import Networks
from infinity.jobs.cluster.actors import actors, each
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress, ProgressSink


@dataclass(frozen=True, slots=True)
class Work:
    """Work items of one benchmark on one target, with a name in words."""

    name: str
    target: EvalTarget
    parts: Sequence[WorkItem[Any]]


class WorkerPool:
    """Actors that live as long as the evaluation, so that the networks they load serve all of its steps."""

    def __init__(self, members: Sequence[Any]) -> None:
        self._members = tuple(members)

    def compute(self, work: Sequence[Work], progress: ProgressSink) -> list[Any]:
        """Return the summed state of every work; states are added in the order of its items.

        Args:
            work: Works, the first of which is started first. A work without items has the state None.
            progress: Called after every item.


        Raises:
            WorkersError: Workers died.
            Exception: An error of an item, as it was raised in the worker.
        """
        parts = [(one.target, part) for one in work for part in one.parts]
        owners = [number for number, one in enumerate(work) for _ in one.parts]
        total, done = sum(part.num_pictures for _, part in parts), 0
        sums: list[Any] = [None] * len(work)
        early: dict[int, Any] = {}
        added = 0
        for index, state in each(self._members, "compute", parts):
            early[index] = state
            while added in early:
                ready, owner = early.pop(added), owners[added]
                sums[owner] = ready if sums[owner] is None else sums[owner] + ready
                added += 1
            done += parts[index][1].num_pictures
            progress(Progress(done / max(total, 1), f"{work[owners[index]].name}: {done} of {total} pictures"))
        return sums


@contextmanager
def worker_pool(workers: WorkersConfig) -> Iterator[WorkerPool]:
    """Yield actors that load what an item needs when they get it, and end with the block.

    Args:
        workers: Resources and number of workers. The cluster may have room for fewer, which changes no result.

    Raises:
        WorkersError: There is no room for a single worker.
    """
    with actors(_EvaluationActor, workers, most=workers.num_workers) as found:
        yield WorkerPool(found)


class _EvaluationActor:
    """Actor that computes one item after the other; it keeps the last model and all networks that judge."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._networks = Networks(device)
        self._context: EvalContext | None = None

    def compute(self, target: EvalTarget, part: WorkItem[Any]) -> Any:
        if self._context is None or self._context.target != target:
            self._context = EvalContext(target, self._networks)
        return part.compute(self._context)
