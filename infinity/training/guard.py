"""Poison: losses that are no numbers or far too large, kept from the weights, counted, and bounded.

A batch with such a loss is skipped before the update: weights, averages, statistics and the learning rate are those of
a run that never had it. Several in a row mean that the weights themselves are going wrong: then the run goes back to
its last checkpoint and leaves out the samples that did it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from infinity.config import Config

FLOOR = 0.1
"""Of the loss at the start: a median below this share of it says nothing about what is large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig(Config):
    """What counts as poison, and how much of it is borne.

    Attributes:
        explosion: A loss over so many times the median of the last good ones is skipped; None lets all numbers pass.
        window: How many good losses the median is over.
        repeats: So many skipped batches in a row send the run back to its last checkpoint.
        max_rewinds: How often that may happen.
        max_skipped: How many batches may be skipped in the whole run.
    """

    explosion: float | None = 10.0
    window: int = 64
    repeats: int = 3
    max_rewinds: int = 2
    max_skipped: int = 64

    def __post_init__(self) -> None:
        if self.explosion is not None and self.explosion <= 1.0:
            raise ValueError(f"GuardConfig.explosion: expected more than 1 or None, got {self.explosion}")
        if self.window < 1 or self.repeats < 1 or self.max_rewinds < 0 or self.max_skipped < 0:
            raise ValueError(
                "GuardConfig: expected window and repeats of at least 1, max_rewinds and max_skipped of at least 0, "
                f"got {self.window}, {self.repeats}, {self.max_rewinds} and {self.max_skipped}"
            )

    def limit(self, recent: Sequence[float], loss_at_start: float) -> float:
        """The largest loss that is trained on.

        Args:
            recent: The last good losses, at most ``window``; none at the start of a run.
            loss_at_start: What an untrained model has, in its order of magnitude.
        """
        if self.explosion is None:
            return math.inf
        usual = abs(median(recent)) if recent else 0.0
        return self.explosion * max(usual, loss_at_start if not recent else FLOOR * loss_at_start)


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped(Config):
    """A batch that was not trained on.

    Attributes:
        position: Its number in the order of batches, from 0.
        step: Updates done when it came.
        reason: What was wrong with it, for people.
        samples: Names of the samples whose own loss was wrong; empty where no single one can be blamed.
    """

    position: int
    step: int
    reason: str
    samples: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = f"samples {', '.join(self.samples[:8])}" if self.samples else "no single sample, but all of the batch"
        more = f" and {len(self.samples) - 8} more" if len(self.samples) > 8 else ""
        return f"batch {self.position} at step {self.step + 1}: {self.reason}: {names}{more}"
