"""Whole shards on a local disk, for data sets that lie in S3: bounded, checked, shared by the processes of a machine.

A cached shard is named by its checksum, so that versions of a data set share what they have in common, and nothing ever
has to be asked whether it is still valid. It is downloaded beside its place, checked, and renamed: whole or absent.
Locks are those of the operating system, which a killed process loses. A download that fails leaves its reason in its
lock's file for those who waited for it: a store that is down is waited for once, not once by each of them in turn.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from infinity import storage
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.storage import StorageError
from infinity.storage.backends import local
from infinity.storage.retries import DamagedError, Patience, UnreachableError

_PIECE_BYTES = 8 * 2**20
_POLL_S = 0.02
_LOCKS = 256
_SHARD, _PART = ".tar", ".part"


class ShardCache:
    """Shards on the local disk; the least recently used make room for new ones.

    Safe for several threads and processes on one machine. A shard that is removed while somebody reads it stays
    readable for them, and its space comes back when they are done.
    """

    def __init__(self, folder: Path | str, max_bytes: int, patience: Patience | None = None) -> None:
        """Prepare the folder.

        Args:
            folder: Folder on a local disk; made if absent. Several data sets may share it.
            max_bytes: Largest size of all shards in the folder together.
            patience: How long to insist on each piece of a download. Who waits for another's download waits as long
                as the other may take, and gets its error.
        """
        self._folder = Path(folder)
        self._max_bytes = max_bytes
        self._patience = patience or Patience()
        with local.explained("make", self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def open(self, uri: str, info: ShardInfo) -> BinaryIO:
        """Return a shard for reading, downloaded if need be; the caller closes it.

        Args:
            uri: Place of the shard.
            info: Size and checksum of the shard.

        Raises:
            UnreachableError: The store did not give it after all attempts, to this caller or to the one that it waited
                for.
            DamagedError: The store gave something else, twice.
            FileMissingError: The store has no such file.
            StorageError: The shard does not fit into the cache, or another process has been downloading it for too
                long.
        """
        path = self._folder / f"{info.sha256}{_SHARD}"
        if (file := _opened(path)) is not None:
            return file
        if info.num_bytes > self._max_bytes:
            raise StorageError(
                f"{uri}: has {info.num_bytes:,} bytes, more than the whole cache {self._folder} may hold "
                f"({self._max_bytes:,}); raise cache_bytes"
            )
        waits = f"another process or thread is downloading {uri} into {self._folder}"
        pieces = -(-info.num_bytes // _PIECE_BYTES)
        with self._locked(int(info.sha256[:8], 16) % _LOCKS, waits, pieces) as lock:
            if (file := _opened(path)) is not None:
                return file
            if lock.was_taken and (reason := lock.reason(info.sha256)):
                raise UnreachableError(reason)
            lock.note(b"")
            try:
                return self._download(uri, info, path)
            except UnreachableError as error:
                with suppress(OSError):  # a full disk keeps no reason: who waited then asks the store itself
                    lock.note(f"{info.sha256} {error}".encode())
                raise

    def forget(self, info: ShardInfo) -> None:
        """Remove a shard that turned out to be damaged on this disk."""
        (self._folder / f"{info.sha256}{_SHARD}").unlink(missing_ok=True)

    def _download(self, uri: str, info: ShardInfo, path: Path) -> BinaryIO:
        """Fill the cache; the shard's lock is held."""
        part = path.with_suffix(_PART)
        with local.explained("write", part):
            self._make_room(part, info.num_bytes)
            try:
                with part.open("r+b") as out:
                    _copy(uri, info, out, self._patience)
                file = part.open("rb")
                os.replace(part, path)
                return file
            finally:
                part.unlink(missing_ok=True)

    def _make_room(self, part: Path, num_bytes: int) -> None:
        """Reserve space by an empty file of that size, which others count, and remove shards until it fits.

        Raises:
            StorageError: Downloads in progress leave no room, and go on doing so.
        """
        deadline = time.monotonic() + self._patience.total_s
        part.unlink(missing_ok=True)  # left behind by a killed process
        while True:
            with self._locked(None, f"another process is making room in {self._folder}"):
                if self._evict(self._max_bytes - num_bytes):
                    with part.open("wb") as out:
                        out.truncate(num_bytes)
                    return
            if time.monotonic() > deadline:
                raise StorageError(
                    f"{self._folder}: no room for {num_bytes:,} bytes within {self._patience.total_s:g} s, the cache's "
                    f"{self._max_bytes:,} bytes are taken by downloads; raise cache_bytes"
                )
            time.sleep(_POLL_S)

    def _evict(self, max_bytes: int) -> bool:
        """Remove the least recently used until at most ``max_bytes`` are left; return whether that was possible."""
        found = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # renamed or removed meanwhile
                if entry.name.endswith((_SHARD, _PART)):
                    found.append((entry.stat().st_mtime_ns, entry.stat().st_size, Path(entry.path)))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= max_bytes:
                break
            if path.suffix == _SHARD or self._is_abandoned(path):
                path.unlink(missing_ok=True)
                total -= size
        return total <= max_bytes

    def _is_abandoned(self, part: Path) -> bool:
        """Return whether nobody is downloading this file any more."""
        descriptor = os.open(self._lock_path(int(part.name[:8], 16) % _LOCKS), os.O_RDWR | os.O_CREAT)
        try:
            return _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _lock_path(self, number: int | None) -> Path:
        return self._folder / ("room.lock" if number is None else f"{number:02x}.lock")

    @contextmanager
    def _locked(self, number: int | None, why_wait: str, pieces: int = 1) -> Iterator[_Lock]:
        """Hold one of the locks. Who holds a shard's waits for none but the room's, so nobody waits in a ring."""
        descriptor = os.open(self._lock_path(number), os.O_RDWR | os.O_CREAT)
        try:
            was_taken = not _try_lock(descriptor)
            if was_taken:
                # Room may have to be made first, and a damaged shard is downloaded twice.
                _wait_for(lambda: _try_lock(descriptor), (1 + 2 * pieces) * self._patience.total_s, why_wait)
            yield _Lock(descriptor, was_taken)
        finally:
            os.close(descriptor)  # gives the lock back


@dataclass(frozen=True, slots=True)
class _Lock:
    """A lock that is held, and what its file says of the last download under it: nothing, or how it failed.

    Who had to wait for the lock waited for a download that began by clearing the file, so what it reads is no older
    than its own waiting.
    """

    descriptor: int
    was_taken: bool

    def note(self, text: bytes) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text, 0)

    def reason(self, sha256: str) -> str:
        """Return why the last download of this shard failed; empty if it did not."""
        text = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0).decode(errors="replace")
        found, _, reason = text.partition(" ")
        return reason if found == sha256 else ""


def _opened(path: Path) -> BinaryIO | None:
    """Return the file for reading, marked as used just now; None if it is absent."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with suppress(FileNotFoundError):  # removed meanwhile; what is open stays readable
        os.utime(path)
    return file


def _copy(uri: str, info: ShardInfo, out: BinaryIO, patience: Patience) -> None:
    """Download a shard and compare it with its checksum; a damaged one is downloaded again."""

    def attempt() -> None:
        digest, offset = hashlib.sha256(), 0
        out.seek(0)
        while offset < info.num_bytes:
            length = min(_PIECE_BYTES, info.num_bytes - offset)
            what = f"bytes {offset:,} to {offset + length:,}"
            piece = patience.read(uri, what, partial(_piece, uri, offset, length))
            digest.update(piece)
            out.write(piece)
            offset += length
        out.flush()
        if digest.hexdigest() != info.sha256:
            raise DamagedError(f"{uri}: expected the checksum {info.sha256}, found {digest.hexdigest()}")

    for left in (1, 0):
        try:
            return attempt()
        except DamagedError as error:
            if not left:
                raise DamagedError(
                    f"{error}, twice; the shard is damaged in its store: build the data set again or restore the file"
                ) from error


def _piece(uri: str, start: int, length: int) -> bytes:
    data = storage.read_bytes(uri, start=start, length=length)
    if len(data) != length:
        raise DamagedError(f"expected {length:,} bytes from offset {start:,}, found {len(data):,}")
    return data


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(ready: Callable[[], bool], seconds: float, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise StorageError(f"waited {seconds:g} s in vain: {why}")
        time.sleep(_POLL_S)
