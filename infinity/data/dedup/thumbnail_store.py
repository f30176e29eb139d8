"""Thumbnails of many pictures in a file on this machine, so that memory does not grow with their number."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int, UInt8

from infinity.data.images.fingerprint import THUMBNAIL_PX

_SHAPE = (THUMBNAIL_PX, THUMBNAIL_PX, 3)

Stretch = tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n 32 32 3"]]
"""Some rows, ascending, and their thumbnails."""


class ThumbnailStore:
    """3 KB a picture in a temporary file that ends with the object; the system keeps in memory what it has room for."""

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        """Write all thumbnails.

        Args:
            stretches: Rows that are larger in each stretch than in the one before.
        """
        rows = [np.empty(0, np.int64)]
        with tempfile.TemporaryFile() as file:
            for numbers, thumbnails in stretches:
                file.write(np.ascontiguousarray(thumbnails).data)
                rows.append(numbers)
            file.flush()
            self._rows = np.concatenate(rows)
            if not (np.diff(self._rows) > 0).all():
                raise ValueError("ThumbnailStore: expected rows in ascending order")
            # The map keeps the file's content until it goes itself; an empty file cannot be mapped.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if len(self._rows) else None

    def of(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m 32 32 3"]:
        """Return the thumbnails of rows, in their order.

        Raises:
            KeyError: A row that has none.
        """
        places = np.minimum(np.searchsorted(self._rows, rows), max(len(self._rows) - 1, 0))
        if len(rows) and not (len(self._rows) and (self._rows[places] == rows).all()):
            raise KeyError("ThumbnailStore: asked for rows that have no thumbnail")
        if self._map is None:
            return np.empty((0, *_SHAPE), np.uint8)
        found = np.frombuffer(self._map, np.uint8).reshape(-1, *_SHAPE)[places]
        # What was looked at stays in the system's cache as long as there is room, and is no memory of this process.
        self._map.madvise(mmap.MADV_DONTNEED)
        return found
