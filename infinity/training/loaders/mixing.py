"""Mix several resolutions in one training, one per step; the choice depends on the number of the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from infinity.config import Config
from infinity.data.loading.draws import key_of, permutation
from infinity.ranges import Count
from infinity.scales import Resolution
from infinity.training.learner import BatchLoader, MicroBatch

P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedResolution(Config):
    """One resolution of a training with several.

    Attributes:
        resolution: Grids of every aspect ratio, and so the size of the pictures.
        batch_size: Pictures per step of this resolution, over all workers and micro-batches.
    """

    resolution: Resolution
    batch_size: Count


class MixedLoader(Generic[P]):
    """Alternate between several data loaders, in rounds of one step of each, in an order drawn per round.

    All workers draw the same order, and a resumed run continues it: the loader of a step, and that loader's own step
    number, are functions of the step's number.
    """

    def __init__(self, loaders: Sequence[BatchLoader[P]], seed: int) -> None:
        if not loaders:
            raise ValueError("MixedLoader: expected at least one loader, got none")
        self._loaders, self._seed = tuple(loaders), seed

    def choice(self, step: int) -> tuple[int, int]:
        """Return the number of a step's loader, and the number of that loader's own step."""
        number, place = divmod(step, len(self._loaders))
        return int(permutation(key_of("resolutions", self._seed, number), len(self._loaders))[place]), number

    def __call__(self, step: int) -> Sequence[P]:
        """Return this worker's micro-batches of batch number ``step``, from 0."""
        which, number = self.choice(step)
        return self._loaders[which](number)
