"""A file at a URI, read range by range, for readers that seek."""

from __future__ import annotations

from infinity import storage
from infinity.storage.backends.positions import SeekingReader


class RangeReader(SeekingReader):
    """A file that is read through storage; blocks of ``block_bytes`` are read at once and the last one is kept.

    Raises:
        StorageError: There is no such file, or later: it cannot be read.
    """

    def __init__(self, uri: str, block_bytes: int = 0) -> None:
        self._uri = uri
        self._block_bytes = block_bytes
        self._block = b""
        self._block_start = 0
        self.size = storage.size(uri)
        super().__init__(self.size)

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        data = self.pread(self._position, size if size >= 0 else max(0, self.size - self._position))
        self._position += len(data)
        return data

    def pread(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer at the end, without moving."""
        if length >= self._block_bytes:
            return storage.read_bytes(self._uri, start=start, length=length)
        offset = start - self._block_start
        if offset < 0 or offset + length > len(self._block):
            self._block = storage.read_bytes(self._uri, start=start, length=self._block_bytes)
            self._block_start, offset = start, 0
        return self._block[offset : offset + length]
