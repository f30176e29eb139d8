"""One function over many arguments on all machines of the cluster, a bounded number of calls at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from infinity.jobs.cluster import is_in_process

R = TypeVar("R")

_CALLS_PER_CPU = 2
"""Enough that no worker waits for the driver, few enough that arguments and results stay small."""


def fan_out(
    function: Callable[..., R],
    arguments: Sequence[tuple[Any, ...]],
    on_done: Callable[[int], None] = lambda done: None,
    *,
    at_once: int | None = None,
) -> list[R]:
    """``[function(*a) for a in arguments]``, each call a Ray task on one CPU; results in the order of the arguments.

    Args:
        function: Importable on every machine.
        arguments: One tuple a call.
        on_done: Called in this process after every finished call with the number of finished ones.
        at_once: Most calls at the same time, where they share something scarcer than CPUs; None for as many as fit.

    Raises:
        Exception: What the first failed call raised, as it was raised there; calls that wait are cancelled.
    """
    if is_in_process():
        done: list[R] = []
        for call in arguments:
            done.append(function(*call))
            on_done(len(done))
        return done
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(num_cpus=1)(function)
    limit = _CALLS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    limit = limit if at_once is None else min(limit, at_once)
    results: dict[int, R] = {}
    running: dict[Any, int] = {}
    waiting = iter(enumerate(arguments))
    try:
        while len(results) < len(arguments):
            while len(running) < limit and (following := next(waiting, None)) is not None:
                running[task.remote(*following[1])] = following[0]
            (finished,), _ = ray.wait(list(running), num_returns=1)
            results[running.pop(finished)] = ray.get(finished)
            on_done(len(results))
    except RayTaskError as error:
        # The cause alone: the trace of a worker's internals is in Ray's logs.
        raise error.cause from None
    finally:
        for reference in running:
            ray.cancel(reference)
    return [results[index] for index in range(len(arguments))]
