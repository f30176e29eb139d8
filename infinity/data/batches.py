"""Batches: which pictures make up step n, as a pure function, and the pictures themselves as pixels.

A batch holds one aspect ratio. Which rows step n gets depends on the manifest, the split, the batch size and the seed,
and on nothing else: not on what was asked before, nor on the number of processes. So a run resumes at any step exactly.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from infinity import storage
from infinity.data.decoding import to_rgb
from infinity.data.manifest import Manifest, Split

# Fractions of n times the golden ratio fall evenly into [0, 1): at any step every aspect ratio has had its share.
_GOLDEN = (5**0.5 - 1) / 2
_READ_THREADS = 8


@dataclass(frozen=True, slots=True)
class BatchIds:
    """The pictures of one step: rows of the manifest that share an aspect ratio (height / width)."""

    aspect_ratio: float
    rows: tuple[int, ...]


class BatchPlan:
    """Which pictures every step trains on.

    The pictures of a ratio come in rounds; a round is a new shuffle of all of them, and the next follows without a gap,
    so every picture is seen equally often, give or take one. Ratios take turns in proportion to their pictures. A ratio
    with fewer pictures than a batch repeats some within it.

    Args:
        manifest: The data set.
        split: Which part of it.
        batch_size: Pictures in a batch, of all processes together.
        seed: Another seed, another order.

    Raises:
        ValueError: The split is empty or the batch size is not positive.
    """

    def __init__(self, manifest: Manifest, split: Split, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        rows = manifest.rows(split)
        if not len(rows):
            raise ValueError(f"{manifest.uri}: expected pictures in the split {split!r}, found none")
        self._batch_size = batch_size
        self._seed = seed
        values = manifest.aspect_ratios[rows]
        self._aspect_ratios: list[float] = sorted({float(value) for value in values})
        self._rows = [rows[values == ratio] for ratio in self._aspect_ratios]
        self._edges = np.cumsum([len(part) for part in self._rows]) / len(rows)
        self._phase = float(np.random.default_rng(seed).random())
        # Memories that only save time: what they hold does not depend on what was asked before.
        self._turns = (np.zeros(0, np.int64), np.zeros((0, len(self._rows)), np.int64))
        self._orders: dict[int, tuple[int, Int[np.ndarray, " n"]]] = {}

    @property
    def num_pictures(self) -> int:
        """Pictures in the split."""
        return sum(len(part) for part in self._rows)

    @property
    def steps_per_round(self) -> float:
        """Steps after which every picture has been seen once on average."""
        return self.num_pictures / self._batch_size

    def batch(self, step: int) -> BatchIds:
        """The pictures of step 0, 1, 2, ....

        Raises:
            ValueError: A negative step.
        """
        if step < 0:
            raise ValueError(f"step: expected at least 0, got {step}")
        which, turn = self._turn(step)
        rows, first = self._rows[which], turn * self._batch_size
        chosen: list[int] = []
        while len(chosen) < self._batch_size:
            round_, start = divmod(first + len(chosen), len(rows))
            order = self._order(which, round_)
            chosen += [int(row) for row in rows[order[start : start + self._batch_size - len(chosen)]]]
        return BatchIds(self._aspect_ratios[which], tuple(chosen))

    def _turn(self, step: int) -> tuple[int, int]:
        """Which ratio has its turn at a step, and how many turns it had before."""
        turns, earlier = self._turns
        if step >= len(turns):
            points = (self._phase + np.arange(max(1024, 2 * step)) * _GOLDEN) % 1.0
            turns = np.searchsorted(self._edges[:-1], points, side="right")
            taken = turns[:, None] == np.arange(len(self._rows))
            earlier = np.cumsum(taken, axis=0) - taken
            self._turns = turns, earlier
        which = int(turns[step])
        return which, int(earlier[step, which])

    def _order(self, which: int, round_: int) -> Int[np.ndarray, " n"]:
        """The shuffle of one ratio's rows in one round."""
        remembered = self._orders.get(which)
        if remembered is None or remembered[0] != round_:
            random = np.random.default_rng((self._seed, which, round_))
            remembered = self._orders[which] = round_, random.permutation(len(self._rows[which]))
        return remembered[1]


def whole_split(manifest: Manifest, split: Split, batch_size: int) -> Iterator[BatchIds]:
    """Every picture of a split once, ratio by ratio, in manifest order; the last batch of a ratio may be smaller."""
    rows = manifest.rows(split)
    for ratio in sorted({float(value) for value in manifest.aspect_ratios[rows]}):
        part = manifest.rows(split, ratio)
        for start in range(0, len(part), batch_size):
            yield BatchIds(ratio, tuple(int(row) for row in part[start : start + batch_size]))


def fit(image: Image.Image, size_px: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Scale with a Lanczos filter until the picture covers (height, width), and keep its centre.

    Crop and scaling are one step: the crop need not fall on whole pixels, so the picture is never distorted.
    """
    height, width = size_px
    scale = max(height / image.height, width / image.width)
    left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    box = (
        max(0.0, left),
        max(0.0, top),
        min(image.width, left + width / scale),
        min(image.height, top + height / scale),
    )
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))


def load_images(
    manifest: Manifest, rows: Sequence[int] | Int[np.ndarray, " n"], size_px: tuple[int, int]
) -> UInt8[np.ndarray, "B H W 3"]:
    """The pictures of some rows as RGB pixels, 0 to 255, all of one (height, width).

    Raises:
        ManifestError: A shard does not hold what the manifest says.
        StorageError: A shard is missing or unreadable.
    """

    def load(row: int) -> UInt8[np.ndarray, "H W 3"]:
        return fit(to_rgb(Image.open(io.BytesIO(manifest.read_image(row)))), size_px)

    rows = [int(row) for row in rows]
    if not rows:
        return np.zeros((0, *size_px, 3), np.uint8)
    if storage.local_path(manifest.uri) is None and len(rows) > 1:
        with ThreadPoolExecutor(_READ_THREADS) as pool:  # each request waits for the network
            return np.stack(list(pool.map(load, rows)))
    return np.stack([load(row) for row in rows])


class ImageCache:
    """``load_images`` that remembers: pictures of a small set are read and scaled once.

    The least recently used are forgotten when the memory is full. Safe to share among threads.

    Args:
        manifest: The data set.
        max_bytes: Memory for pixels.
    """

    def __init__(self, manifest: Manifest, max_bytes: int = 2**30) -> None:
        self._manifest = manifest
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[tuple[int, tuple[int, int]], UInt8[np.ndarray, "H W 3"]] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, rows: Sequence[int], size_px: tuple[int, int]) -> UInt8[np.ndarray, "B H W 3"]:
        """As ``load_images``."""
        with self._lock:
            found = {row: image for row in rows if (image := self._kept.get((row, size_px))) is not None}
            for row in found:
                self._kept.move_to_end((row, size_px))
        missing = [row for row in dict.fromkeys(rows) if row not in found]
        for row, image in zip(missing, load_images(self._manifest, missing, size_px), strict=True):
            found[row] = image.copy()  # a view would keep the whole batch alive
            self._keep((row, size_px), found[row])
        return np.stack([found[row] for row in rows])

    def _keep(self, key: tuple[int, tuple[int, int]], image: UInt8[np.ndarray, "H W 3"]) -> None:
        with self._lock:
            if key not in self._kept:
                self._num_bytes += image.nbytes
            self._kept[key] = image
            while self._num_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._num_bytes -= oldest.nbytes
