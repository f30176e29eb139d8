"""One function over many arguments on all machines of the cluster, a bounded number of calls at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from infinity import storage
from infinity.jobs.cluster.connection import is_in_process
from infinity.storage.fences import Fence, fenced, held

R = TypeVar("R")

SETTLE_S = 0.5
"""Seconds between a failure and the cancelling of other calls: short ones end, long ones are with their workers."""
_CALLS_PER_CPU = 2
"""Enough that no worker waits for the driver, few enough that arguments and results stay small."""


def fan_out(
    function: Callable[..., R],
    arguments: Sequence[tuple[Any, ...]],
    on_done: Callable[[int], None] = lambda done: None,
    *,
    at_once: int | None = None,
) -> list[R]:
    """Return ``[function(*a) for a in arguments]``, in this order; each call is a Ray task on one CPU.

    Args:
        function: Function to call; importable on every machine.
        arguments: One tuple per call.
        on_done: Callback in this process after every finished call, with the number of finished ones.
        at_once: Most calls at the same time, where they share something scarcer than CPUs; None for as many as fit.

    Raises:
        Exception: What the first failed call raised, as it was raised there; calls that wait are cancelled.
    """
    return list(each_result(function, arguments, on_done, at_once=at_once))


def each_result(
    function: Callable[..., R],
    arguments: Iterable[tuple[Any, ...]],
    on_done: Callable[[int], None] = lambda done: None,
    *,
    at_once: int | None = None,
) -> Iterator[R]:
    """Yield the results of ``fan_out`` one by one, in the same order.

    Arguments are made when a call begins, and of the results only those wait here that are ahead of a slower call: what
    all calls together are given and give need not fit into this process.

    Args:
        function: Function to call; importable on every machine.
        arguments: One tuple per call, taken one by one.
        on_done: Callback in this process after every finished call, with the number of finished ones.
        at_once: Most calls at the same time; None for as many as fit.

    Raises:
        Exception: What the first failed call raised, as it was raised there; calls that wait are cancelled.
    """
    if is_in_process():
        for done, call in enumerate(arguments, start=1):
            result = function(*call)
            on_done(done)
            yield result
        return
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(num_cpus=1)(_call).options(name=getattr(function, "__name__", "call"))
    fences, patience_s = held(), storage.patience()
    limit = _CALLS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    limit = limit if at_once is None else min(limit, at_once)
    early: dict[int, R] = {}
    running: dict[Any, int] = {}
    waiting = iter(enumerate(arguments))
    done = given = 0
    try:
        while True:
            while len(running) < limit and (following := next(waiting, None)) is not None:
                running[task.remote(fences, patience_s, function, *following[1])] = following[0]
            if not running:
                return
            (finished,), _ = ray.wait(list(running), num_returns=1)
            early[running.pop(finished)] = ray.get(finished)
            done += 1
            on_done(done)
            while given in early:
                yield early.pop(given)
                given += 1
    except RayTaskError as error:
        # The cause alone: the trace of a worker's internals is in Ray's logs.
        raise error.cause from None
    finally:
        if running:
            _cancel(list(running))


def _cancel(running: list[Any]) -> None:
    """Cancel the calls that do not end by themselves in a moment.

    Ray ends this process ("Check failed: it != submissible_tasks_.end()") where a call is cancelled just when a worker
    gets it, as after one that failed at once.
    """
    import ray

    _, left = ray.wait(running, num_returns=len(running), timeout=SETTLE_S)
    for reference in left:
        ray.cancel(reference)


def _call(fences: Sequence[Fence], patience_s: float, function: Callable[..., R], *arguments: Any) -> R:
    """Call the function on a worker, which passes the driver's fences to write, and is as patient as the driver."""
    with storage.patient(patience_s), ExitStack() as gates:
        for fence in fences:
            gates.enter_context(fenced(fence))
        return function(*arguments)
