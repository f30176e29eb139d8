"""Data loader of pictures: this worker's micro-batches of every step, prefetched."""

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
        keys: Names of the pictures in the source of the data set.
        rows: Rows of the pictures in the manifest.
        schedule: Grids of the pictures.
        images_BHWC: RGB, 0 to 255, of the schedule's size.
        batch_size: Pictures of the whole batch, over all micro-batches and workers.
    """

    keys: tuple[str, ...]
    rows: tuple[int, ...]
    schedule: ScaleSchedule
    images_BHWC: UInt8[Tensor, "B H W 3"]
    batch_size: int

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all pictures together."""
        return len(self.keys) * self.schedule.num_tokens

    def without(self, keys: frozenset[str]) -> PictureBatch | None:
        """Return the batch without these pictures, or None if none is left."""
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
        """Return as many nameless black pictures."""
        return replace(self, keys=("",) * len(self.keys), images_BHWC=torch.zeros_like(self.images_BHWC))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoaderConfig:
    """Settings of one worker's data loader.

    Attributes:
        manifest: Manifest of the data set.
        plan: Rows of every step's batch.
        resolution: Grids of every aspect ratio.
        group: Process group of this worker.
        num_parts: Micro-batches per batch, over all workers.
        num_steps: Steps of the run; no step beyond is prefetched. None for a run without end.
        reading: Settings of caches and threads.
        augment: Augmentation, drawn at each visit of a picture.
    """

    manifest: Manifest
    plan: BatchPlan
    resolution: Resolution
    group: ProcessGroup
    num_parts: int = 1
    num_steps: int | None = None
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def micro_batches(self, step: int) -> list[BatchIds]:
        """Return the worker's micro-batches of a step, in order of their numbers."""
        return micro_batches(self.plan.batch(step), self.group, self.num_parts)

    def stream(self, stride_px: int) -> PixelLoader:
        """Return a loader of the micro-batches' pixels, for tokens of ``stride_px`` pixels a side."""
        return PixelLoader(
            self.manifest,
            self.micro_batches,
            lambda ratio: self.resolution.schedule(ratio).image_size_px(stride_px),
            self.reading,
            augment=self.augment,
            key=self.plan.key,
            num_steps=self.num_steps,
        )


class PictureLoader:
    """Data loader of this worker's micro-batches of pictures; the next steps are prefetched."""

    def __init__(self, config: LoaderConfig, stride_px: int) -> None:
        """Prepare to read.

        Args:
            config: Settings of the loader.
            stride_px: Side of a token in pixels.
        """
        self._config = config
        self._stream = config.stream(stride_px)

    def __call__(self, step: int) -> Sequence[PictureBatch]:
        """Return this worker's micro-batches of batch number ``step``, from 0."""
        return [self._named(batch) for batch in self._stream(step)]

    def close(self) -> None:
        """End the prefetching threads."""
        self._stream.close()

    def _named(self, batch: LoadedBatch) -> PictureBatch:
        config, rows = self._config, batch.ids.rows
        names = tuple(config.manifest.values("source", rows))
        schedule, images = config.resolution.schedule(batch.ids.aspect_ratio), torch.from_numpy(batch.images)
        return PictureBatch(names, rows, schedule, images, config.plan.batch_size)


def left_over(keys: Sequence[str], unwanted: frozenset[str]) -> list[int]:
    """Return the places of the keys that are not unwanted."""
    return [place for place, key in enumerate(keys) if key not in unwanted]


def micro_batches(ids: BatchIds, group: ProcessGroup, num_parts: int) -> list[BatchIds]:
    """Return a worker's micro-batches of a batch, in order of their numbers (``ProcessGroup.micro_batches``)."""
    return [
        BatchIds(
            ids.aspect_ratio,
            micro_batch_of(ids.rows, number, num_parts),
            micro_batch_of(ids.visits, number, num_parts),
        )
        for number in group.micro_batches(num_parts)
    ]


class Prefetcher(Generic[T]):
    """Wrap a loader so that a thread prepares the next steps; the values are the same as without it."""

    def __init__(self, loader: Callable[[int], T], num_steps: int | None, *, depth: int = 2) -> None:
        """Wrap a loader.

        Args:
            loader: Pure function of the number of a step.
            num_steps: Steps of the run; no step beyond is prepared. None for a run without end.
            depth: Largest number of steps prepared ahead.
        """
        self._loader, self._num_steps, self._depth = loader, num_steps, depth
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._pending: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """Return the loader's value, waiting if it is not ready; errors of the loader are raised here."""
        for stale in [number for number in self._pending if not step <= number <= step + self._depth]:
            self._pending.pop(stale).cancel()
        last = step + self._depth if self._num_steps is None else min(step + self._depth, self._num_steps - 1)
        for ahead in range(step, max(step, last) + 1):
            if ahead not in self._pending:
                self._pending[ahead] = self._pool.submit(self._loader, ahead)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """Drop what was prepared, and end the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
