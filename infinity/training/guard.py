"""Bad batches: losses that are not finite or far too large. They are skipped, counted and bounded (decision 27).

A bad batch is skipped before the update: weights, averages, statistics and the learning rate stay those of a run that
never had it. Several in a row mean that the weights themselves are going wrong. The run then goes back to its last
checkpoint and leaves out the samples that caused it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated

from infinity.config import Config
from infinity.ranges import Count, Natural, Range

FLOOR = 0.1
"""Fraction of the loss at the start. A median below it is raised to it, so that small losses set no tiny limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig(Config):
    """When a batch counts as bad, and how many bad batches a run tolerates.

    Attributes:
        explosion: Largest ratio of a loss to the median of the last good ones; a batch above it is skipped. None
            accepts every finite loss.
        window: Number of good losses in the median.
        repeats: Number of skipped batches in a row that send the run back to its last checkpoint.
        max_rewinds: Largest number of such returns in the whole run.
        max_skipped: Largest number of skipped batches in the whole run.
    """

    explosion: Annotated[float, Range(above=1)] | None = 10.0
    window: Count = 64
    repeats: Count = 3
    max_rewinds: Natural = 2
    max_skipped: Natural = 64

    def limit(self, recent: Sequence[float], loss_at_start: float) -> float:
        """Return the largest loss that is trained on.

        Args:
            recent: The last good losses, at most ``window``; none at the start of a run.
            loss_at_start: Order of magnitude of an untrained model's loss.
        """
        if self.explosion is None:
            return math.inf
        usual = abs(median(recent)) if recent else 0.0
        return self.explosion * max(usual, loss_at_start if not recent else FLOOR * loss_at_start)


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped(Config):
    """A batch that was skipped.

    Attributes:
        position: Number of the batch, from 0.
        step: Number of updates before it.
        reason: Why it was skipped, in words.
        samples: Names of the samples whose own loss was bad; empty where no single one is the cause.
    """

    position: int
    step: int
    reason: str
    samples: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = f"samples {', '.join(self.samples[:8])}" if self.samples else "no single sample, but all of the batch"
        more = f" and {len(self.samples) - 8} more" if len(self.samples) > 8 else ""
        return f"batch {self.position} at step {self.step + 1}: {self.reason}: {names}{more}"
