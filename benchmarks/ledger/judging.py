"""Say whether the newest run of a benchmark is slower than what the same machine has shown it can do.

Compared are medians of processor seconds, which other programs disturb less than the clock. The yardstick is the best
of all five runs in a row, not the last run: small losses that add up are found too. A slowdown is flagged where the
whole 95 % interval of the ratio lies above 1.05. The interval holds what changes between runs, as the history shows it,
and what changes within the newest run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

FEWEST = 3
"""Earlier runs without which nothing is said."""
WINDOW = 5
"""Runs in a row whose median is the yardstick."""
LEAST = 0.05
"""Smallest change of the ratio that counts."""
_Z_95 = 1.96
_FLOOR = 0.01
"""Smallest relative standard deviation of a run that is believed."""

Kind = Literal["too few", "same", "slower", "faster"]


@dataclass(frozen=True, slots=True)
class TimedRun:
    """One run of one item.

    Attributes:
        at: Date and time.
        seconds: Median of processor seconds.
        low: Lower end of the median's 95 % interval.
        high: Upper end of it.
        load: Load of the machine at the end of the run.
        reason: Reason why this run is a new beginning; empty where it is none.
    """

    at: str
    commit: str
    seconds: float
    low: float
    high: float
    load: float = 0.0
    reason: str = ""

    def accepted(self, reason: str) -> TimedRun:
        """Return the same run as a new beginning."""
        return replace(self, reason=reason)


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """Comparison of a run with earlier ones.

    Attributes:
        ratio: Seconds of the run over the yardstick; 1 where there are too few earlier runs.
        low: Lower end of the ratio's 95 % interval.
        high: Upper end of it.
    """

    kind: Kind
    ratio: float = 1.0
    low: float = 1.0
    high: float = 1.0


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a median that assumes no distribution; of fewer than six values, their range.

    Example:
        >>> median_interval([3.0, 1.0, 2.0])
        (1.0, 3.0)
    """
    ordered, size, outside = sorted(values), len(values), 0.0
    cut = -1
    while True:
        outside += 2 * math.comb(size, cut + 1) / 2**size
        if outside > 0.05 or cut + 1 >= (size - 1) // 2:
            break
        cut += 1
    cut = max(cut, 0)
    return ordered[cut], ordered[size - 1 - cut]


def judge(history: Sequence[TimedRun], new: TimedRun) -> RunVerdict:
    """Compare a run with earlier ones of the same item on the same machine, oldest first.

    Runs before the last new beginning do not count.
    """
    begin = max((number for number, entry in enumerate(history) if entry.reason), default=0)
    history = history[begin:]
    if len(history) < FEWEST:
        return RunVerdict("too few")
    seconds = [entry.seconds for entry in history]
    size = min(WINDOW, len(seconds))
    yardstick = min(statistics.median(seconds[i : i + size]) for i in range(len(seconds) - size + 1))
    deviation = max(_between(seconds), math.log(new.high / new.low) / (2 * _Z_95), _FLOOR)
    ratio, reach = new.seconds / yardstick, math.exp(_Z_95 * deviation * math.sqrt(1 + 1 / size))
    low, high = ratio / reach, ratio * reach
    kind: Kind = "slower" if low > 1 + LEAST else "faster" if high < 1 - LEAST else "same"
    return RunVerdict(kind, ratio, low, high)


def verdicts(entries: Sequence[TimedRun]) -> list[RunVerdict]:
    """Return the verdict on every run, each compared with those before it."""
    return [judge(entries[:number], entry) for number, entry in enumerate(entries)]


def _between(seconds: Sequence[float]) -> float:
    """Return the relative standard deviation of runs, from steps between neighbours, which a trend hardly changes."""
    steps = [abs(math.log(later / earlier)) for earlier, later in pairwise(seconds)]
    return 1.4826 * statistics.median(steps) / math.sqrt(2)
