"""Several resolutions in one training, one of them at each step: which, follows from the number of the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from infinity.config import Config
from infinity.data.loading.draws import key_of, permutation
from infinity.scales import Resolution
from infinity.training.learner import BatchLoader, MicroBatch

P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedResolution(Config):
    """One of the resolutions that a training takes turns with.

    Attributes:
        resolution: Grids of every aspect ratio, and so the size of the pictures.
        batch_size: Pictures of a step with it, over all workers and parts: fewer of large pictures.
    """

    resolution: Resolution
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"MixedResolution.batch_size: expected at least 1, got {self.batch_size}")


class MixedFeed(Generic[P]):
    """Takes turns with several feeds, in rounds of one step of each, in an order drawn for the round.

    All workers draw the same order, and a run that is resumed at any step goes on with it: the feed of a step and its
    place among that feed's own steps are functions of the step's number.
    """

    def __init__(self, feeds: Sequence[BatchLoader[P]], seed: int) -> None:
        if not feeds:
            raise ValueError("MixedFeed: expected at least one feed, got none")
        self._feeds, self._seed = tuple(feeds), seed

    def turn(self, step: int) -> tuple[int, int]:
        """Which feed a step belongs to, and which of that feed's steps it is."""
        turn, place = divmod(step, len(self._feeds))
        return int(permutation(key_of("resolutions", self._seed, turn), len(self._feeds))[place]), turn

    def __call__(self, step: int) -> Sequence[P]:
        """The worker's parts of batch number ``step``, from 0."""
        which, turn = self.turn(step)
        return self._feeds[which](turn)
