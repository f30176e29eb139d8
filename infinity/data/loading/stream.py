"""Pixels of every step's pictures, ready before they are asked for: reading, decoding and fitting in threads.

Which pictures a step has is known without reading anything, so a stream begins at any step without a look at earlier
ones. What comes out does not depend on the number of workers, on what is prefetched or on where the files are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from itertools import count
from typing import Self

import numpy as np
from jaxtyping import UInt8

from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.batches import BatchIds, ImageCache, picture
from infinity.data.loading.stored import ReadingConfig, StoredPictures
from infinity.storage import StorageError

_FETCHERS = 4
"""Shards that are downloaded at the same time."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedBatch:
    """Pictures of one aspect ratio.

    Attributes:
        ids: Rows, aspect ratio and visits of the pictures.
        images: RGB, 0 to 255, in the order of the ids.
    """

    ids: BatchIds
    images: UInt8[np.ndarray, "B H W 3"]


@dataclass(frozen=True, slots=True)
class Loading:
    """A batch that workers fill."""

    batch: LoadedBatch
    tasks: list[Future[None]]


class PixelLoader:
    """What ``ids_of`` names for every step, as pixels; steps may be asked for in any order, rising ones are fast.

    Use as a context manager, or close it.
    """

    def __init__(
        self,
        manifest: Manifest,
        ids_of: Callable[[int], Sequence[BatchIds]],
        size_px: Callable[[float], tuple[int, int]],
        config: ReadingConfig | None = None,
        *,
        augment: AugmentConfig | None = None,
        key: int = 0,
        num_steps: int | None = None,
    ) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            manifest: The data set.
            ids_of: Function that gives this process's parts of a step's batch: pure, safe to call from any thread.
            size_px: Height and width of the pictures of an aspect ratio.
            augment: Settings of the random crop and mirroring at each visit.
            key: Key of the random draws: that of the plan.
            num_steps: Steps of the run; none beyond is prepared. None for a run without end.
        """
        self._config = config or ReadingConfig()
        self._augment = augment or AugmentConfig()
        self._ids_of, self._size_px, self._key, self._num_steps = ids_of, size_px, key, num_steps
        self._stored = StoredPictures(manifest, self._config)
        self._memory = ImageCache(self._config.memory_bytes if self._augment.changes_nothing else 0)
        self._pool = ThreadPoolExecutor(self._config.num_workers, thread_name_prefix="pictures")
        self._fetchers = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="shards") if self._stored.caches else None
        self._fetched_to = 0
        self._fetching: dict[str, Future[None]] = {}
        self._pending: dict[int, list[Loading]] = {}

    def __call__(self, step: int) -> list[LoadedBatch]:
        """Return the pictures of a step, waiting where they are not ready.

        Raises:
            UnreachableError: A store did not give a shard after all attempts.
            StorageError: A shard is missing or damaged, or nothing was ready in the time that all attempts may take.
        """
        last = step + self._config.prefetch_steps
        for stale in [number for number in self._pending if not step <= number <= last]:
            for loading in self._pending.pop(stale):
                for task in loading.tasks:
                    task.cancel()
        self._fetch_ahead(step)
        for number in range(step, last + 1):
            if number not in self._pending and (number == step or self._is_in_run(number)):
                self._pending[number] = [self._start(ids) for ids in self._ids_of(number)]
        loadings = self._pending.pop(step)
        # A worker may have the rest of a step before it, and each of its reads may take all its attempts.
        deadline = time.monotonic() + 4 * self._config.patience.total_s
        for loading in loadings:
            for task in loading.tasks:
                self._await(task, step, loading.batch.ids, deadline)
        return [loading.batch for loading in loadings]

    def from_step(self, step: int) -> Iterator[list[LoadedBatch]]:
        """Yield the pictures of step after step to the end of the run, or without end."""
        for number in count(step) if self._num_steps is None else range(step, self._num_steps):
            yield self(number)

    def load(self, ids: BatchIds) -> UInt8[np.ndarray, "B H W 3"]:
        """Return pictures by their ids, outside of any step."""
        loading = self._start(ids)
        for task in loading.tasks:
            task.result()
        return loading.batch.images

    def close(self) -> None:
        """Forget what was prepared."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._fetchers is not None:
            self._fetchers.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_in_run(self, step: int) -> bool:
        return self._num_steps is None or step < self._num_steps

    def _start(self, ids: BatchIds) -> Loading:
        """Let each worker fill its share of what is not in memory."""
        size_px = self._size_px(ids.aspect_ratio)
        batch = LoadedBatch(ids, np.empty((len(ids.rows), *size_px, 3), np.uint8))
        known = self._memory.find(ids.rows, size_px) if self._augment.changes_nothing else {}
        missing: dict[int, list[int]] = {}
        for place, row in enumerate(ids.rows):
            if row in known:
                batch.images[place] = known[row]
            else:  # a picture that comes twice in a batch is the same picture, unless something is drawn for it
                missing.setdefault(row if self._augment.changes_nothing else place, []).append(place)
        groups = list(missing.values())
        shares = [groups[worker :: self._config.num_workers] for worker in range(self._config.num_workers)]
        return Loading(batch, [self._pool.submit(self._fill, batch, share) for share in shares if share])

    def _fill(self, batch: LoadedBatch, groups: Sequence[Sequence[int]]) -> None:
        """Read the picture of each group of places."""
        ids = batch.ids
        size_px = (batch.images.shape[1], batch.images.shape[2])
        rows = [ids.rows[places[0]] for places in groups]
        visits = [ids.visits[places[0]] if ids.visits else 0 for places in groups]
        placements = self._augment.place(self._key, rows, visits)
        for places, row, placement in zip(groups, rows, placements, strict=True):
            data = self._stored.read(row)
            try:
                image = picture(data, size_px, placement)
            except (OSError, ValueError, SyntaxError) as error:  # what decoders raise
                raise ManifestError(
                    f"row {row} has the bytes that its manifest names, but no picture: {error}"
                ) from error
            batch.images[places] = image
            if self._augment.changes_nothing:
                self._memory.keep(row, size_px, image)

    def _await(self, task: Future[None], step: int, ids: BatchIds, deadline: float) -> None:
        try:
            task.result(timeout=max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            shards = ", ".join(sorted(self._stored.shards(ids.rows))[:4])
            raise StorageError(
                f"the pictures of step {step} were not ready within {4 * self._config.patience.total_s:g} s; they lie "
                f"in {shards}. The disk or store may hang: look after it and start again"
            ) from None

    def _fetch_ahead(self, step: int) -> None:
        """Have shards in the cache before workers wait for them; their errors are met by whoever reads them."""
        if self._fetchers is None:
            return
        if not step <= self._fetched_to <= step + self._config.cache_steps + 1:
            self._fetched_to = step
        self._fetching = {uri: task for uri, task in self._fetching.items() if not task.done()}
        while self._fetched_to <= step + self._config.cache_steps and self._is_in_run(self._fetched_to):
            for ids in self._ids_of(self._fetched_to):
                for uri in sorted(self._stored.shards(ids.rows)):
                    if uri not in self._fetching:
                        self._fetching[uri] = self._fetchers.submit(self._stored.fetch, uri)
            self._fetched_to += 1
