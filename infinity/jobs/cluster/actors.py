"""Actors of the cluster that hold something heavy: calls are dealt out one by one, dead actors are replaced."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from infinity import storage
from infinity.jobs.cluster.connection import is_in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.watching import end_actor

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""Seconds that a job that has failed waits for the calls that are being computed."""

LOOK_S = 5.0
"""Seconds between two looks at actors that do not answer, while others have nothing to do."""

HOMELESS_S = 20.0
"""Seconds after which an actor that no machine has room for gives its call to an idle one."""


UNREACHABLE_S = 180.0
"""Longest time in seconds in which an actor that cannot be reached is asked again; Ray notices a lost machine by then.

Ray's own retries of a call are used up within seconds.
"""

PAUSE_S = 1.0


class _Unreachable(Exception):
    """An actor cannot be reached for now: its machine is lost and Ray does not know yet, or the network broke off."""


class WorkersError(RuntimeError):
    """Workers died more often than allowed, or the cluster cannot give what was asked for."""


@contextmanager
def actors(kind: type[Any], workers: WorkersConfig, most: int, *more: Any) -> Iterator[list[Any]]:
    """Actors of a class that takes a device, a number of threads and what else is given; they end with the block.

    Args:
        workers: Number and size of the workers. The cluster may have room for fewer, which changes no result.
        most: Largest number of actors that is needed.

    Raises:
        WorkersError: No room for a single worker.
    """
    device = "cuda" if workers.use_gpu else "cpu"
    if is_in_process():
        yield [kind(device, workers.threads, *more)]
        return
    import ray

    number = min(_room(workers), max(1, most))
    actor_type = ray.remote(with_patience(kind)).options(
        num_cpus=workers.threads,
        num_gpus=int(workers.use_gpu),
        max_restarts=workers.max_failures,
        max_task_retries=workers.max_failures,
    )
    team = [actor_type.remote(device, workers.threads, *more) for _ in range(number)]
    try:
        yield team
    finally:
        for actor in team:
            end_actor(actor)


def with_patience(kind: type[Any]) -> type[Any]:
    """Return a class of actors that wait for a store as long as this process does."""
    seconds = storage.patience()

    class Patient(kind):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            storage.stay_patient(seconds)
            super().__init__(*arguments)

    Patient.__name__ = kind.__name__
    Patient.__qualname__ = kind.__qualname__
    return Patient


def each(team: Sequence[Any], method: str, calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    """Yield the place and the result of every call as it is done; an idle actor gets the next call.

    Args:
        team: Actors, as ``actors`` gave them.

    Raises:
        WorkersError: Workers died more often than allowed.
        Exception: What a call raised, as it was raised in the worker.
    """
    if is_in_process():
        for index, call in enumerate(calls):
            yield index, getattr(team[0], method)(*call)
        return
    import ray

    waiting, idle = deque(enumerate(calls)), [actor for actor in team if _state(actor) != "DEAD"]
    if not idle:
        raise WorkersError(
            "all workers have died, perhaps for want of memory; use fewer workers or a smaller batch_size"
        )
    running: dict[Any, tuple[int, Any]] = {}
    homeless, unreachable = dict[Any, float](), dict[Any, float]()
    while waiting or running:
        while waiting and idle:
            index, call = waiting.popleft()
            actor = idle.pop()
            running[getattr(actor, method).remote(*call)] = index, actor
        found, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S if idle else None)
        if not found:
            ready = [actor for actor in idle if _state(actor) == "ALIVE"]
            for reference, successor in zip(_without_machine(running, homeless), ready, strict=False):
                index, actor = running.pop(reference)
                logger.warning("no machine has room for a worker that was lost; the others do its work")
                end_actor(actor)
                idle.remove(successor)
                running[getattr(successor, method).remote(*calls[index])] = index, successor
            continue
        index, actor = running.pop(found[0])
        try:
            result = _result(found[0])
        except _Unreachable as error:
            if time.monotonic() - unreachable.setdefault(actor, time.monotonic()) > UNREACHABLE_S:
                raise WorkersError(f"a worker could not be reached for {UNREACHABLE_S:.0f} s ({error})") from error
            time.sleep(PAUSE_S)
            running[getattr(actor, method).remote(*calls[index])] = index, actor
            continue
        except Exception:
            # Let the others finish what they do: an actor that is killed at work is reported on the terminal.
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=PATIENCE_S)
            raise
        unreachable.pop(actor, None)
        idle.append(actor)
        yield index, result


def _without_machine(running: dict[Any, tuple[int, Any]], homeless: dict[Any, float]) -> list[Any]:
    """Return the calls whose actors have had no machine for a while.

    When a machine is lost, its actors wait for room elsewhere, if need be for ever.

    Args:
        running: Place and actor of every call that is under way.
        homeless: When each actor was first seen without a machine; kept from one look to the next.
    """
    now, found = time.monotonic(), []
    for reference, (_, actor) in running.items():
        if _state(actor) not in _HOMELESS:
            homeless.pop(actor, None)
        elif now - homeless.setdefault(actor, now) >= HOMELESS_S:
            found.append(reference)
    return found


_HOMELESS = frozenset({"DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING"})
"""States of an actor that no machine has."""


def _state(actor: Any) -> str:
    """Return the state of an actor in Ray's words."""
    from ray._private import state

    return str(state.actors(actor._actor_id.hex()).get("State"))


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # The cause is what the worker raised: a sentence for people. Ray's own text is a trace of internals.
        raise error.cause from error
    except ray.exceptions.ActorUnavailableError as error:
        raise _Unreachable(str(error).strip().splitlines()[0][:300]) from error
    except ray.exceptions.RayActorError as error:
        raise WorkersError(
            "a worker died again and again, perhaps for want of memory; use fewer workers or a smaller batch_size "
            f"({str(error).splitlines()[0]})"
        ) from error


def _room(workers: WorkersConfig) -> int:
    """Return how many of the wanted actors the cluster can ever hold; Ray would wait for more without end."""
    import ray

    have = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(int(node.get("CPU", 0) // workers.threads) for node in nodes)
    if workers.use_gpu:
        room = min(room, int(have.get("GPU", 0)))
    if room < 1:
        wanted = f"{workers.threads} CPUs" + (" and a GPU" if workers.use_gpu else "")
        raise WorkersError(
            f"a worker wants {wanted} on one machine; the Ray cluster has {have.get('CPU', 0):.0f} CPUs and "
            f"{have.get('GPU', 0):.0f} GPUs on {len(nodes)} machines; change workers.threads or workers.use_gpu"
        )
    if room < workers.num_workers:
        logger.info("the cluster has room for %d of %d workers", room, workers.num_workers)
    return min(workers.num_workers, room)
