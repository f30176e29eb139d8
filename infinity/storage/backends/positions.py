"""A place in a file of known size, for readers that seek; what is read there is for the class that inherits."""

from __future__ import annotations

import io
from typing import Any


class SeekingReader(io.RawIOBase):
    """A file of known size that is read from a place onwards; subclasses define ``read``."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes, self._position = num_bytes, 0

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
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes, as far as there are any; for readers that buffer themselves."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view)) or b""
        view[: len(data)] = data
        return len(data)
