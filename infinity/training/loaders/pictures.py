"""Feeds of pictures: this worker's parts of every step's batch, ready before they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.batches import BatchIds, BatchPlan
from infinity.data.loading.stored import ReadingConfig
from infinity.data.loading.stream import LoadedBatch, PixelLoader
from infinity.scales import Resolution, ScaleSchedule
from infinity.training.distributed.parallel import ProcessGroup, micro_batch_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class PictureBatch:
    """Pictures of one aspect ratio.

    Attributes:
        keys: Their names in the source of the data set.
        rows: Their rows in the manifest.
        schedule: Their grids.
        images_BHWC: RGB, 0 to 255, of the schedule's size.
        batch_size: Pictures of the whole batch, over all parts and workers.
    """

    keys: tuple[str, ...]
    rows: tuple[int, ...]
    schedule: ScaleSchedule
    images_BHWC: UInt8[Tensor, "B H W 3"]
    batch_size: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all pictures together."""
        return len(self.keys) * self.schedule.num_tokens

    def without(self, keys: frozenset[str]) -> PictureBatch | None:
        """The batch without some of its pictures; None if none is left."""
        kept = left_over(self.keys, keys)
        if len(kept) == len(self.keys):
            return self
        if not kept:
            return None
        return replace(
            self,
            keys=tuple(self.keys[i] for i in kept),
            rows=tuple(self.rows[i] for i in kept),
            images_BHWC=self.images_BHWC[kept],
        )

    def blank(self) -> PictureBatch:
        """As many nameless pictures, all black."""
        return replace(self, keys=("",) * len(self.keys), images_BHWC=torch.zeros_like(self.images_BHWC))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoaderConfig:
    """What one worker reads: its parts of every step's batch, and how.

    Attributes:
        manifest: The data set.
        plan: Which rows make up which step.
        resolution: Grids of every aspect ratio.
        team: Whose member this worker is.
        num_parts: Parts of a batch, over all workers.
        num_steps: Steps of the run; none beyond is prepared. None for a run without end.
        reading: How to read.
        augment: What is drawn for a picture at each visit.
    """

    manifest: Manifest
    plan: BatchPlan
    resolution: Resolution
    team: ProcessGroup
    num_parts: int = 1
    num_steps: int | None = None
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def parts(self, step: int) -> list[BatchIds]:
        """The worker's parts of a step's batch, in order of their numbers."""
        return micro_batches(self.plan.batch(step), self.team, self.num_parts)

    def stream(self, stride_px: int) -> PixelLoader:
        """Their pixels, for a token of this side."""
        return PixelLoader(
            self.manifest,
            self.parts,
            lambda ratio: self.resolution.schedule(ratio).image_size_px(stride_px),
            self.reading,
            augment=self.augment,
            key=self.plan.key,
            num_steps=self.num_steps,
        )


class PictureLoader:
    """This worker's parts of every step's batch, as pictures; the next steps are prepared while one is worked on."""

    def __init__(self, share: LoaderConfig, stride_px: int) -> None:
        """Prepare to read.

        Args:
            share: What is read.
            stride_px: Pixels of a token's side.
        """
        self._share, self._names = share, Names(share.manifest)
        self._stream = share.stream(stride_px)

    def __call__(self, step: int) -> Sequence[PictureBatch]:
        """The worker's parts of batch number ``step``, from 0."""
        return [self._named(batch) for batch in self._stream(step)]

    def close(self) -> None:
        """End the reading ahead."""
        self._stream.close()

    def _named(self, batch: LoadedBatch) -> PictureBatch:
        rows, schedule = batch.ids.rows, self._share.resolution.schedule(batch.ids.aspect_ratio)
        images = torch.from_numpy(batch.images)
        return PictureBatch(self._names.of(rows), rows, schedule, images, self._share.plan.batch_size)


def left_over(keys: Sequence[str], unwanted: frozenset[str]) -> list[int]:
    """Places of the samples that are not unwanted."""
    return [place for place, key in enumerate(keys) if key not in unwanted]


class Names:
    """What a manifest's rows are called, for error messages."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def of(self, rows: Sequence[int]) -> tuple[str, ...]:
        """One name a row."""
        return tuple(self._manifest.values("source", rows))


def micro_batches(ids: BatchIds, team: ProcessGroup, num_parts: int) -> list[BatchIds]:
    """A worker's parts of a batch, in order of their numbers (``ProcessGroup.parts``)."""
    return [
        BatchIds(
            ids.aspect_ratio, micro_batch_of(ids.rows, part, num_parts), micro_batch_of(ids.visits, part, num_parts)
        )
        for part in team.parts(num_parts)
    ]


class Prefetcher(Generic[T]):
    """A feed that prepares the next steps in a thread while one is worked on; the same values as without it."""

    def __init__(self, feed: Callable[[int], T], num_steps: int | None, *, depth: int = 2) -> None:
        """Wrap a feed.

        Args:
            feed: A pure function of the step.
            num_steps: Steps of the run; none beyond is prepared. None for a run without end.
            depth: How many steps are prepared at most.
        """
        self._feed, self._num_steps, self._depth = feed, num_steps, depth
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._pending: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """The feed's value, waiting where it is not ready; errors of the feed are raised here."""
        for stale in [number for number in self._pending if not step <= number <= step + self._depth]:
            self._pending.pop(stale).cancel()
        last = step + self._depth if self._num_steps is None else min(step + self._depth, self._num_steps - 1)
        for ahead in range(step, max(step, last) + 1):
            if ahead not in self._pending:
                self._pending[ahead] = self._pool.submit(self._feed, ahead)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """Forget what was prepared."""
        self._pool.shutdown(wait=True, cancel_futures=True)
