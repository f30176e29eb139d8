"""The file that says who owns a folder: read, replaced only if it is what one believes, held while its owner writes."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from infinity.storage.backends import local, s3
from infinity.storage.errors import FileAlreadyThereError, FileChangedError, FileMissingError, StorageError
from infinity.storage.names import LEASE_FILE

_NUM_BYTES = 4096
"""Size of the file on a disk in bytes: constant, so that one call of the system writes all of it."""

_PATIENCE_S = {fcntl.LOCK_EX: 1.0, fcntl.LOCK_SH: 30.0}
"""Whoever changes the owner comes again later; the owner's write has to get through, or to fail."""

_LOCK_POLL_S = 0.01

Found = tuple[bytes, str]
"""Content, and a text that changes with it."""


class LeaseFile(Protocol):
    """The file in a folder on a disk or in a bucket."""

    folder: str
    uri: str

    def read(self) -> Found | None:
        """Return the content of the file; None where there is no file."""
        ...

    def swap(self, expected: str | None, data: bytes) -> str:
        """Replace it, if it is ``expected`` (None: absent), by others' leave; what is to be expected from then on.

        Raises:
            FileChangedError: The file holds something else.
            StorageError: The file cannot be written.
        """
        ...

    def beat(self, expected: str, data: bytes) -> str:
        """Replace the file as ``swap`` does, by its owner, also while another thread of the owner holds the file."""
        ...

    def remove(self, expected: str, *, folder_too: bool) -> None:
        """Delete it, if it is ``expected``, and if wanted the folder where that is empty.

        Raises:
            FileChangedError: The file holds something else.
            StorageError: The file cannot be deleted.
        """
        ...

    def holding(self, check: Callable[[Found | None], None]) -> Iterator[None]:
        """Run ``check``, which may raise, and keep the file as it is during the one step of this generator."""
        ...


def lease_file(folder: str, path: Path | None) -> LeaseFile:
    """Return the lease file of a folder; ``path`` is None in S3."""
    return S3LeaseFile(folder) if path is None else DiskLeaseFile(path)


class DiskLeaseFile:
    """On a disk: owners and those who take over exclude each other by a lock that ends with the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder.absolute())
        self._path = folder.absolute() / LEASE_FILE
        self.uri = str(self._path)

    def read(self) -> Found | None:
        with local.explained("read", self._path):
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would block
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                return _content(descriptor)
            finally:
                os.close(descriptor)

    def swap(self, expected: str | None, data: bytes) -> str:
        with local.explained("write", self._path):
            local.make_folders(self._path.parent)
            with self._locked(fcntl.LOCK_EX, create=True) as descriptor:
                assert descriptor is not None
                _compare(_content(descriptor), expected, self.uri)
                _replace(descriptor, data)
                os.fsync(descriptor)  # a token that was given is never given again
        return _version(data)

    def beat(self, expected: str, data: bytes) -> str:
        with local.explained("write", self._path), self._locked(fcntl.LOCK_SH) as descriptor:
            _compare(None if descriptor is None else _content(descriptor), expected, self.uri)
            assert descriptor is not None
            _replace(descriptor, data)
        return _version(data)

    def remove(self, expected: str, *, folder_too: bool) -> None:
        with local.explained("delete", self._path), self._locked(fcntl.LOCK_EX) as descriptor:
            _compare(None if descriptor is None else _content(descriptor), expected, self.uri)
            os.unlink(self._path)
            if folder_too:
                with suppress(OSError):  # not empty
                    os.rmdir(self._path.parent)

    def holding(self, check: Callable[[Found | None], None]) -> Iterator[None]:
        with self._locked(fcntl.LOCK_SH) as descriptor:
            check(None if descriptor is None else _content(descriptor))
            yield

    @contextmanager
    def _locked(self, kind: int, *, create: bool = False) -> Iterator[int | None]:
        """Descriptor of the file under a lock; None where there is no file."""
        with local.explained("lock", self._path):
            descriptor = self._lock(kind, create)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)  # and with it the lock

    def _lock(self, kind: int, create: bool) -> int | None:
        deadline = time.monotonic() + _PATIENCE_S[kind]
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
            except (FileNotFoundError, NotADirectoryError):
                if create:
                    raise
                return None
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                if self._is_there(descriptor):
                    return descriptor
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    error = FileChangedError if kind == fcntl.LOCK_EX else StorageError
                    raise error(
                        f"{self._path}: another process holds this file for more than {_PATIENCE_S[kind]:g} s, as one "
                        "does that was stopped in the middle of a write; let it go on, or end it, and start again"
                    ) from None
            except OSError as error:
                os.close(descriptor)
                raise StorageError(
                    f"{self._path}: this file system has no locks ({error.strerror}), without which two processes "
                    "could write into one folder; choose another place for the outputs"
                ) from error
            os.close(descriptor)
            time.sleep(_LOCK_POLL_S)

    def _is_there(self, descriptor: int) -> bool:
        """Return whether the locked file still has its name: its owner may have deleted it meanwhile."""
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        opened = os.fstat(descriptor)
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _content(descriptor: int) -> Found | None:
    data = os.pread(descriptor, _NUM_BYTES, 0).rstrip(b"\0 \n")
    return (data, _version(data)) if data else None  # an empty one was made a moment ago, and nobody has it yet


def _version(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip("\0 \n")


def _replace(descriptor: int, data: bytes) -> None:
    if len(data) > _NUM_BYTES:
        raise ValueError(f"a lease holds at most {_NUM_BYTES} bytes, got {len(data)}")
    os.pwrite(descriptor, data.ljust(_NUM_BYTES), 0)


def _compare(found: Found | None, expected: str | None, uri: str) -> None:
    if (None if found is None else found[1]) != expected:
        raise FileChangedError(f"{uri}: somebody else changed it meanwhile")


class S3LeaseFile:
    """In a bucket: every change is conditional on the ETag. A write of the owner is checked right before it is sent."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.uri = f"{folder.rstrip('/')}/{LEASE_FILE}"

    def read(self) -> Found | None:
        try:
            return s3.read_tagged(self.uri)
        except FileMissingError:
            return None

    def swap(self, expected: str | None, data: bytes) -> str:
        return self._swap(expected, data, quick=False)

    def beat(self, expected: str, data: bytes) -> str:
        return self._swap(expected, data, quick=True)

    def _swap(self, expected: str | None, data: bytes, *, quick: bool) -> str:
        try:
            return s3.swap(self.uri, expected, data, quick=quick)
        except (FileAlreadyThereError, FileMissingError) as error:
            found = self.read()
            if found is not None and found[0] == data:
                return found[1]  # it was this write, whose answer was lost
            raise FileChangedError(f"{self.uri}: somebody else changed it meanwhile") from error

    def remove(self, expected: str, *, folder_too: bool) -> None:
        found = self.read()
        _compare(found, expected, self.uri)
        s3.delete(self.uri)

    def holding(self, check: Callable[[Found | None], None]) -> Iterator[None]:
        check(self.read())
        yield
