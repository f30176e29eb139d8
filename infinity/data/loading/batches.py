"""Batches: which pictures make up step n, as a pure function, and the pictures themselves as pixels.

A batch holds one aspect ratio. Which rows step n gets depends on the manifest's digest, the split, the batch size, the
seed and how pictures are mixed, and on nothing else: not on what was asked before, nor on the number of processes. So a
run resumes at any step exactly, and at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Int, UInt8

from infinity import storage
from infinity.data.dataset.manifest import Manifest, Split
from infinity.data.images.decoding import open_unguarded
from infinity.data.images.fitting import CENTRE, Placement, fit
from infinity.data.images.rgb import to_rgb
from infinity.data.loading.draws import key_of, uniform_at
from infinity.data.loading.shuffle import OrderConfig, Rounds

_READ_THREADS = 8


@dataclass(frozen=True, slots=True)
class BatchIds:
    """The pictures of one step: rows of the manifest that share an aspect ratio (height / width).

    Attributes:
        aspect_ratio: Ratio (height / width) of all pictures.
        rows: Row numbers of the manifest, in order.
        visits: How often each picture came before, which is its epoch; empty where a plan was not asked. What is drawn
            for a picture (its crop, its caption) follows from row and visit.
    """

    aspect_ratio: float
    rows: tuple[int, ...]
    visits: tuple[int, ...] = ()


class BatchPlan:
    """The pictures of every training step, as a pure function of the step's number (docs/decisions/0008).

    The pictures of a ratio come in rounds; a round is a new shuffle of all of them (``OrderConfig``), and the next
    follows without a gap. Epoch e has the batches of every ratio that *end* in its round e: each picture comes once an
    epoch, except that the pictures that do not fill a last batch (fewer than ``batch_size`` a ratio) come at the
    beginning of the next epoch, in one batch with its first ones. Nothing is dropped and nothing is repeated to fill a
    batch; over any number of epochs every picture is seen equally often, give or take one. A ratio with fewer pictures
    than a batch has a batch in some epochs only, and repeats pictures within it. In an epoch, the batches of the ratios
    take turns evenly.

    Memory is that of the shards, not of the pictures; safe to share among threads.

    Args:
        manifest: The data set; its digest is a part of the seed.
        split: Split of the data set.
        batch_size: Pictures in a batch, of all processes together.
        seed: Seed of the order.
        order: Settings of the shuffle.

    Raises:
        ValueError: The split is empty or the batch size is not positive.
    """

    def __init__(
        self, manifest: Manifest, split: Split, batch_size: int, seed: int = 0, order: OrderConfig | None = None
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        ratios, starts, counts, repeats = _runs(manifest, split)
        if not len(ratios):
            raise ValueError(f"{manifest.uri}: expected pictures in the split {split!r}, found none")
        self.batch_size = batch_size
        self.key = key_of(manifest.digest, split, seed)
        """A 64-bit key of data set, split and seed, from which all draws for pictures follow (docs/decisions/0011)."""
        self._aspect_ratios = sorted({float(value) for value in ratios})
        order = order or OrderConfig()
        self._rounds = [
            Rounds(
                starts[ratios == ratio],
                counts[ratios == ratio],
                key_of(self.key, which),
                order,
                repeats[ratios == ratio],
            )
            for which, ratio in enumerate(self._aspect_ratios)
        ]
        self._sizes = np.array([rounds.num_rows for rounds in self._rounds], np.int64)

    @property
    def num_pictures(self) -> int:
        """Pictures in the split; those of repeated data sets count as often as they come."""
        return int(self._sizes.sum())

    def first_step(self, epoch: int) -> int:
        """Return the first step of epoch 0, 1, 2, ...; an epoch without a full batch begins where the next does."""
        return int(self._batches_before(epoch).sum())

    def epoch(self, step: int) -> int:
        """Return the epoch that a step belongs to."""
        epoch = step * self.batch_size // self.num_pictures
        while self.first_step(epoch) > step:
            epoch -= 1
        while self.first_step(epoch + 1) <= step:
            epoch += 1
        return epoch

    def batch(self, step: int) -> BatchIds:
        """Return the pictures of step 0, 1, 2, ....

        Raises:
            ValueError: A negative step.
        """
        if step < 0:
            raise ValueError(f"step: expected at least 0, got {step}")
        epoch = self.epoch(step)
        before = self._batches_before(epoch)
        which, turn = self._turn(epoch, self._batches_before(epoch + 1) - before, step - int(before.sum()))
        rows, visits = self._rounds[which].at((int(before[which]) + turn) * self.batch_size, self.batch_size)
        return BatchIds(self._aspect_ratios[which], tuple(rows.tolist()), tuple(visits.tolist()))

    def _batches_before(self, epoch: int) -> Int[np.ndarray, " ratios"]:
        """Return full batches of every ratio in all earlier epochs."""
        return epoch * self._sizes // self.batch_size

    def _turn(self, epoch: int, numbers: Int[np.ndarray, " ratios"], place: int) -> tuple[int, int]:
        """Return which ratio has its turn at a place of an epoch, and how many turns it had before in this epoch.

        Turn j of a ratio with n of them comes at the time (j + phase) / n; the order of the times is the order of the
        batches. Found without writing the order down: count the turns before a time that is surely early enough, then
        go on turn by turn.
        """
        if len(numbers) == 1:
            return 0, place
        phases = uniform_at(key_of(self.key, "turns", epoch), np.arange(len(numbers)))
        some = np.maximum(numbers, 1)
        time = max(0, place - len(numbers)) / numbers.sum()
        # One fewer of each, so that rounding never counts a turn too many; the loop below counts the rest in order.
        turns = np.clip(np.ceil(time * some - phases) - 1, 0, numbers).astype(np.int64)
        while True:
            times = np.where(turns < numbers, (turns + phases) / some, np.inf)
            which = int(np.argmin(times))
            if turns.sum() == place:
                return which, int(turns[which])
            turns[which] += 1


def _runs(manifest: Manifest, split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ratio, first row, length and repeats of every stretch of rows of the split that share ratio and shard."""
    shards = manifest.column("shard").dictionary_encode().combine_chunks().indices.to_numpy()
    inside = pc.equal(manifest.column("split"), split).to_numpy(zero_copy_only=False)
    ratios = manifest.aspect_ratios
    if not len(shards):
        return ratios, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    repeats = manifest.repeats_of(np.arange(len(shards)))
    change = (np.diff(shards) != 0) | (np.diff(ratios) != 0) | (np.diff(inside.astype(np.int8)) != 0)
    change |= np.diff(repeats) != 0
    starts = np.append(0, np.flatnonzero(change) + 1)
    counts = np.diff(np.append(starts, len(shards)))
    kept = inside[starts]
    return ratios[starts][kept], starts[kept], counts[kept], repeats[starts][kept]


def picture(data: bytes, size_px: tuple[int, int], placement: Placement = CENTRE) -> UInt8[np.ndarray, "H W 3"]:
    """Return RGB pixels, 0 to 255, of a picture's file, fitted to (height, width)."""
    return fit(to_rgb(open_unguarded(data)), size_px, placement)


def load_images(
    manifest: Manifest, rows: Sequence[int] | Int[np.ndarray, " n"], size_px: tuple[int, int]
) -> UInt8[np.ndarray, "B H W 3"]:
    """Return the pictures of some rows as RGB pixels, 0 to 255, all of one (height, width).

    Raises:
        ManifestError: A shard does not hold what the manifest says.
        StorageError: A shard is missing or unreadable.
    """

    def load(row: int) -> UInt8[np.ndarray, "H W 3"]:
        return picture(manifest.read_image(row), size_px)

    rows = [int(row) for row in rows]
    if not rows:
        return np.zeros((0, *size_px, 3), np.uint8)
    if storage.local_path(manifest.uri) is None and len(rows) > 1:
        with ThreadPoolExecutor(_READ_THREADS) as pool:  # each request waits for the network
            return np.stack(list(pool.map(load, rows)))
    return np.stack([load(row) for row in rows])


class ImageCache:
    """Pixels of pictures that were read and fitted before; the least recently used are forgotten when it is full.

    Safe to share among threads.

    Args:
        max_bytes: Memory for pixels.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[tuple[int, tuple[int, int]], UInt8[np.ndarray, "H W 3"]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, rows: Sequence[int], size_px: tuple[int, int]) -> dict[int, UInt8[np.ndarray, "H W 3"]]:
        """Return the pictures among ``rows`` that are known in this size."""
        with self._lock:
            found = {row: image for row in rows if (image := self._kept.get((row, size_px))) is not None}
            for row in found:
                self._kept.move_to_end((row, size_px))
        return found

    def keep(self, row: int, size_px: tuple[int, int], image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Remember a copy of a picture, unless it alone is too large."""
        if image.nbytes > self._max_bytes:
            return
        image = image.copy()  # a view would keep the whole batch alive
        with self._lock:
            if (row, size_px) not in self._kept:
                self._num_bytes += image.nbytes
            self._kept[row, size_px] = image
            while self._num_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._num_bytes -= oldest.nbytes
