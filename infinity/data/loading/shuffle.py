"""The order of the pictures of one aspect ratio: shuffled shards, shuffled again within windows of some shards.

A shuffle of all rows would read single pictures from all over a data set, which a store of large files answers slowly
and a local cache cannot keep up with. Here a round visits the shards in random order and mixes the pictures of a few
shards at a time, so that every shard is read once a round, as a whole. The price: two pictures of far apart shards meet
in a batch only in the rounds that put their shards near each other. A set that fits into one window is shuffled freely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from infinity.config import Config
from infinity.data.loading.draws import key_of, permutation
from infinity.ranges import Count

Rows = Int[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderConfig(Config):
    """Settings of the shuffle.

    Attributes:
        window_pictures: Pictures that are shuffled freely among each other, in whole shards: one shard more begins
            where fewer than this many are together. A reader that caches shards needs room for the shards of one window
            of every aspect ratio, or it reads them again.
    """

    window_pictures: Count = 16_384


class Rounds:
    """Rounds over runs of rows: every round holds each row once, or as often as it is repeated, in an order of its own.

    Memory and time are those of the runs and of the windows at hand, not of the rows.
    """

    def __init__(self, starts: Rows, counts: Rows, key: int, config: OrderConfig, repeats: Rows | None = None) -> None:
        """Prepare rounds over some runs of rows.

        Args:
            starts: First row of each run; a run is the part of a shard that belongs to a ratio.
            counts: Rows of each run, at least 1.
            key: Key of the random orders.
            config: Settings of the shuffle.
            repeats: How often the rows of each run come in a round, at least 1; None for once.
        """
        repeats = np.ones(len(starts), np.int64) if repeats is None else repeats
        self._copies = np.concatenate([np.arange(number) for number in repeats]) if len(repeats) else repeats
        self._repeats = np.repeat(repeats, repeats)
        starts, counts = np.repeat(starts, repeats), np.repeat(counts, repeats)
        self._starts, self._counts, self._key, self._config = starts, counts, key, config
        self.num_rows = int(counts.sum())
        # Caches that only save time. A batch may lie at the seam of two windows and two rounds.
        self._round: Callable[[int], tuple[Rows, Rows, Rows]] = lru_cache(maxsize=2)(self._make_round)
        self._window: Callable[[int, int], tuple[Rows, Rows]] = lru_cache(maxsize=3)(self._make_window)

    def at(self, first: int, number: int) -> tuple[Rows, Rows]:
        """Return ``number`` rows from place ``first`` on in the endless sequence of rounds, and the visit of each.

        The visit is how often the row came in earlier rounds and, of a repeated one, in earlier copies of its run.
        """
        rows, visits = [], []
        while number > 0:
            round_, place = divmod(first, self.num_rows)
            _, _, edges = self._round(round_)
            window = int(np.searchsorted(edges, place, side="right")) - 1
            here = slice(place - int(edges[window]), place - int(edges[window]) + number)
            part, visit = (each[here] for each in self._window(round_, window))
            rows.append(part)
            visits.append(visit)
            first, number = first + len(part), number - len(part)
        return np.concatenate(rows), np.concatenate(visits)

    def _make_round(self, round_: int) -> tuple[Rows, Rows, Rows]:
        """Order of the runs, at which of them each window begins, and at which place of the round; one end each."""
        order = permutation(key_of(self._key, "shards", round_), len(self._starts))
        places = np.cumsum(self._counts[order]) - self._counts[order]
        windows = places // self._config.window_pictures
        first = np.flatnonzero(np.diff(windows, prepend=-1))
        return order, np.append(first, len(order)), np.append(places[first], self.num_rows)

    def _make_window(self, round_: int, window: int) -> tuple[Rows, Rows]:
        """Return the rows of one window in their order, and their visits."""
        by_run, first, _ = self._round(round_)
        runs = by_run[first[window] : first[window + 1]]
        counts = self._counts[runs]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: Rows = np.repeat(self._starts[runs], counts) + inside
        order = permutation(key_of(self._key, "pictures", round_, window), len(rows))
        visits = np.repeat(round_ * self._repeats[runs] + self._copies[runs], counts)
        return rows.take(order), visits.take(order)
