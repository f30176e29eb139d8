"""Parts of an evaluation on actors of the cluster: dealt out one by one, results in the order of the parts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from infinity.evaluation.measure import Material, Part, Subject
from infinity.evaluation.networks import Networks
from infinity.jobs.progress import Progress, ProgressSink
from infinity.jobs.training import WorkersConfig

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long an evaluation that has failed waits for the parts that are being computed."""


class EvaluationError(RuntimeError):
    """Workers died more often than allowed, or the cluster cannot give what was asked for."""


@dataclass(frozen=True, slots=True)
class Work:
    """One measure's parts on one subject, with words for people."""

    name: str
    subject: Subject
    parts: Sequence[Part[Any]]


class Team:
    """Actors that live as long as the evaluation, so that what they have loaded serves all of its steps."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = tuple(actors)

    def compute(self, work: Sequence[Work], progress: ProgressSink) -> list[Any]:
        """The summed state of every work; states are added in the order of its parts, whoever computed them and when.

        Args:
            work: None for one without parts; the first are begun first.
            progress: Told after every part.

        Raises:
            EvaluationError: Workers that die.
            Exception: What a part raised, as it was raised in the worker.
        """
        parts = [(each.subject, part) for each in work for part in each.parts]
        owners = [number for number, each in enumerate(work) for _ in each.parts]
        total, done = sum(part.num_pictures for _, part in parts), 0
        sums: list[Any] = [None] * len(work)
        early: dict[int, Any] = {}
        added = 0
        for index, state in _finished(parts, self._actors):
            early[index] = state
            while added in early:
                ready, owner = early.pop(added), owners[added]
                sums[owner] = ready if sums[owner] is None else sums[owner] + ready
                added += 1
            done += parts[index][1].num_pictures
            progress(Progress(done / max(total, 1), f"{work[owners[index]].name}: {done} of {total} pictures"))
        return sums


def _finished(parts: Sequence[tuple[Subject, Part[Any]]], actors: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Place and state of every part as it gets ready; an idle actor gets the next part."""
    import ray

    waiting, idle = deque(enumerate(parts)), list(actors)
    running: dict[Any, tuple[int, Any]] = {}
    while waiting or running:
        while waiting and idle:
            index, (subject, part) = waiting.popleft()
            actor = idle.pop()
            running[actor.compute.remote(subject, part)] = index, actor
        (ready,), _ = ray.wait(list(running), num_returns=1)
        index, actor = running.pop(ready)
        try:
            state = _result(ready)
        except Exception:
            # Let the others finish what they do: an actor that is killed at work is reported on the terminal.
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=PATIENCE_S)
            raise
        idle.append(actor)
        yield index, state


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # The cause is what the worker raised: a sentence for people. Ray's own text is a trace of internals.
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        raise EvaluationError(
            "a worker of the evaluation died again and again, perhaps for want of memory; use fewer workers or a "
            f"smaller batch_size ({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def team(workers: WorkersConfig) -> Iterator[Team]:
    """Actors that load what a part needs when they get it, and end with the block.

    Args:
        workers: How many. The cluster may have room for fewer, which changes no result.

    Raises:
        EvaluationError: No room for a single worker.
    """
    import ray

    number = _room(workers)
    if number < workers.num_workers:
        logger.info("the cluster has room for %d of %d workers", number, workers.num_workers)
    actor_type = ray.remote(_Worker).options(
        num_cpus=workers.threads,
        num_gpus=int(workers.use_gpu),
        max_restarts=workers.max_failures,
        max_task_retries=workers.max_failures,
    )
    actors = [actor_type.remote("cuda" if workers.use_gpu else "cpu", workers.threads) for _ in range(number)]
    try:
        yield Team(actors)
    finally:
        for actor in actors:
            ray.kill(actor)


def _room(workers: WorkersConfig) -> int:
    """How many of the wanted actors the cluster can ever hold; Ray would wait for more without end."""
    import ray

    have = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(int(node.get("CPU", 0) // workers.threads) for node in nodes)
    if workers.use_gpu:
        room = min(room, int(have.get("GPU", 0)))
    if room < 1:
        wanted = f"{workers.threads} CPUs" + (" and a GPU" if workers.use_gpu else "")
        raise EvaluationError(
            f"an evaluation worker wants {wanted} on one machine; the Ray cluster has {have.get('CPU', 0):.0f} CPUs "
            f"and {have.get('GPU', 0):.0f} GPUs on {len(nodes)} machines; change workers.threads or workers.use_gpu"
        )
    return min(workers.num_workers, room)


class _Worker:
    """An actor: computes one part after the other, keeps the model of the last one and all networks that judge."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._networks = Networks(device)
        self._material: Material | None = None

    def compute(self, subject: Subject, part: Part[Any]) -> Any:
        if self._material is None or self._material.subject != subject:
            self._material = Material(subject, self._networks)
        return part.compute(self._material)
