"""A file at a URI, read range by range, for readers that seek."""

from __future__ import annotations

import io
from typing import Any

from infinity import storage


class RangeReader(io.RawIOBase):
    """A file that is read through storage; blocks of ``block_bytes`` are read at once and the last one is kept.

    Raises:
        StorageError: There is no such file, or later: it cannot be read.
    """

    def __init__(self, uri: str, block_bytes: int = 0) -> None:
        self._uri = uri
        self._block_bytes = block_bytes
        self._block = b""
        self._block_start = 0
        self._position = 0
        self.size = storage.size(uri)

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: the place of the next read can be moved."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place; nothing is read."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        data = self.pread(self._position, size if size >= 0 else max(0, self.size - self._position))
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes, as far as there are any; for readers that buffer themselves."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def pread(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer at the end, without moving."""
        if length >= self._block_bytes:
            return storage.read_bytes(self._uri, start=start, length=length)
        offset = start - self._block_start
        if offset < 0 or offset + length > len(self._block):
            self._block = storage.read_bytes(self._uri, start=start, length=self._block_bytes)
            self._block_start, offset = start, 0
        return self._block[offset : offset + length]
