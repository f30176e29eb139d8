"""What is timed, and how: median and spread of repeated runs after a warm-up."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to time.

    Attributes:
        group: Letter of the list in the README: a to e.
        about: Sizes that a reader must know to compare the figure.
        prepare: Builds model and inputs, and returns what is timed.
    """

    group: str
    name: str
    about: dict[str, Any]
    prepare: Callable[[], Callable[[], object]]


def measure(item: Item, *, repeats: int, warmups: int = 2) -> dict[str, Any]:
    """Time an item: seconds of wall clock (median, distance of the quartiles, extremes) and of processor time.

    The processor time of all threads together tells something even when other programs use the machine.
    """
    run = item.prepare()
    for _ in range(warmups):
        run()
    figures = _figures([seconds_of(run) for _ in range(repeats)])
    return {"item": item.name, "group": item.group, **figures, **item.about}


def alternately(runs: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, dict[str, Any]]:
    """Time several things in turn, so that other work on the machine disturbs all of them alike.

    Each has the figures of ``measure`` and, but for the first one, what it takes over what the first one took just
    before it: the median of all turns and the distance of the quartiles, of the clock and of processor time.

    Args:
        runs: Functions by name; already warmed up.
    """
    turns = [{name: seconds_of(run) for name, run in runs.items()} for _ in range(repeats)]
    first, *others = runs
    found = {name: _figures([turn[name] for turn in turns]) for name in runs}
    for name in others:
        for which, what in enumerate(("ratio", "ratio_cpu")):
            ratios = [turn[name][which] / turn[first][which] for turn in turns]
            found[name] |= {what: statistics.median(ratios), f"{what}_spread": spread(ratios)}
    return found


def within(context: Callable[[], AbstractContextManager[Any]], run: Callable[[], object]) -> Callable[[], object]:
    """Return a function that runs another one within a new context, such as one of another data type."""

    def inside() -> object:
        with context():
            return run()

    return inside


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Return the result of a function in a process of its own, where nothing was loaded, compiled or claimed before."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _figures(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    seconds = [wall for wall, _ in pairs]
    return {
        "median_s": statistics.median(seconds),
        "spread_s": spread(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "median_cpu_s": statistics.median(processor for _, processor in pairs),
        "all_cpu_s": [processor for _, processor in pairs],
        "repeats": len(pairs),
    }


def spread(values: Sequence[float]) -> float:
    """Return the distance of the quartiles; 0 of a single value."""
    if len(values) == 1:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def seconds_of(run: Callable[[], object]) -> tuple[float, float]:
    """Return wall clock and processor time of one run."""
    processor, wall = _processor_s(), time.perf_counter()
    run()
    return time.perf_counter() - wall, _processor_s() - processor


def largest_mb() -> float:
    """Return the largest memory of this process so far, in MB; 0 where the system does not tell (other than Linux).

    ``getrusage`` would begin with the memory of the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _processor_s() -> float:
    """Return processor time of this process and of the processes that it has waited for, such as a compiler."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
