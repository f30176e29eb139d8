"""Which of the places that are no paths of this machine a URI names: S3, or the inside of an archive."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Protocol

from infinity.storage.backends import archives, local, s3
from infinity.storage.errors import StorageError


class RemoteReader(Protocol):
    """What can be asked of each of these places; ``s3.py`` and ``archives.py`` say what is returned."""

    def exists(self, uri: str, /) -> bool:
        """Return whether a file is there, or one below it."""
        ...

    def read(self, uri: str, start: int, length: int | None, /) -> bytes:
        """Return a part of a file."""
        ...

    def size(self, uri: str, /) -> int:
        """Return the bytes of a file."""
        ...

    def list_entries(self, uri: str, /) -> list[tuple[str, int, str]]:
        """Return name, bytes and version of all files below."""
        ...


def remote(uri: str) -> RemoteReader:
    """Return the reader of a place that is no path of this machine."""
    return archives if archives.is_inside_archive(uri) else s3


def writable(uri: str) -> ModuleType:
    """Return the writer of such a place.

    Raises:
        StorageError: The place lies inside an archive, which is only read.
    """
    if archives.is_inside_archive(uri):
        raise StorageError(f"{uri}: expected a place that can be written, found one inside an archive; name a folder")
    return s3


def download_remote(uri: str, path: Path) -> None:
    """Copy a file of such a place to this machine."""
    if archives.is_inside_archive(uri):
        local.write(path, archives.read(uri, 0, None), if_absent=False)
    else:
        s3.download_file(uri, path)
