"""What is timed, and how: median and spread of repeated runs after a warm-up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing to time.

    Attributes:
        group: Letter of the list in the README: a to e.
        name: Of this item.
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
    pairs = [_seconds(run) for _ in range(repeats)]
    seconds = sorted(wall for wall, _ in pairs)
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if repeats > 1 else seconds * 3
    return {
        "item": item.name,
        "group": item.group,
        "median_s": statistics.median(seconds),
        "spread_s": high - low,
        "min_s": seconds[0],
        "max_s": seconds[-1],
        "median_cpu_s": statistics.median(processor for _, processor in pairs),
        "repeats": repeats,
        **item.about,
    }


def _seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall clock and processor time of one run."""
    processor, wall = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - wall, time.process_time() - processor
