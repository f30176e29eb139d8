"""Files on this machine: atomic writes and clear errors."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from infinity.storage import fences
from infinity.storage.backends.listing import Entry, Listing, walk
from infinity.storage.errors import FileAlreadyThereError, FileMissingError, PlaceRefusedError, StorageError
from infinity.storage.names import PART_SUFFIX, is_content
from infinity.storage.room import room_for

_COPY_BYTES = 4 * 2**20
_REASONS = {
    errno.ENOSPC: "no space left on the disk; free some or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some or choose another place",
    errno.EFBIG: "the file would be larger than this disk or process may write",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the disk is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def explained(action: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors into a StorageError that names the path and the reason.

    What stays as it is until somebody changes it, such as a full disk, is a PlaceRefusedError.
    """
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise FileMissingError(f"cannot {action} {path}: there is no such file or folder") from error
    except OSError as error:
        if (reason := _REASONS.get(error.errno or 0)) is not None:
            raise PlaceRefusedError(f"cannot {action} {path}: {reason}") from error
        raise StorageError(f"cannot {action} {path}: {error.strerror or error}") from error
    except ValueError as error:
        if "\0" not in str(path) and not isinstance(error, UnicodeEncodeError):
            raise  # not about the path
        raise StorageError(f"cannot {action} {str(path)!r}: a file name cannot hold these characters") from error


def exists(path: Path) -> bool:
    """Return whether a file or folder is there."""
    with explained("look for", path):
        return _status(path) is not None


def read(path: Path, start: int, length: int | None) -> bytes:
    """Return ``length`` bytes from ``start``, or all from there."""
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would block for ever
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise StorageError(f"cannot read {path}: expected a file, found a pipe, a socket or a device")
            # Make room for no more than there is, however much is asked for.
            end = status.st_size
            end = end if length is None else min(end, start + length)
            with room_for(str(path), max(0, end - start)):
                return _read_range(descriptor, start, end)
        finally:
            os.close(descriptor)


def size(path: Path) -> int:
    """Return the size of a file in bytes."""
    with explained("look at", path):
        return os.stat(path).st_size


def write(path: Path, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
    """Write a temporary neighbour, flush it to the disk, then give it its name in one step."""
    with explained("write", path):
        make_folders(path.parent)
        with _DraftFile(path) as part:
            part.write(data)
            part.publish(path, if_absent=if_absent)


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour to write into, which gets its name at the end."""
    with explained("write", path):
        make_folders(path.parent)
        with _DraftFile(path) as part:
            yield cast(BinaryIO, part)
            part.publish(path, if_absent=False)


class LocalDraft:
    """A temporary file in a folder, which gets its name at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = _DraftFile(folder / "draft")

    def write(self, data: bytes) -> int:
        """Append data and return the number of bytes."""
        return self._part.write(data)

    def publish(self, name: str) -> bool:
        """Give the file its name unless it is taken; return whether it was free."""
        try:
            self._part.publish(self._folder / name, if_absent=True)
        except FileAlreadyThereError:
            return False
        return True

    def close(self) -> None:
        """Forget the file, unless it was published."""
        self._part.close()


@contextmanager
def draft(folder: Path) -> Iterator[LocalDraft]:
    """Open a file in ``folder`` whose name is known at the end only."""
    with explained("write a file in", folder):
        make_folders(folder)
        file = LocalDraft(folder)
        try:
            yield file
        finally:
            file.close()


def copy(source: Path, target: Path) -> None:
    """Copy one file so that the target is whole or absent."""
    with explained("copy to", target):
        make_folders(target.parent)
        with _DraftFile(target) as part, source.open("rb") as file:
            shutil.copyfileobj(file, part, _COPY_BYTES)
            part.publish(target, if_absent=False)


def make_folders(folder: Path) -> None:
    """Make a folder and all above it, each of which is on the disk before anything is written into it.

    A folder that is there but empty may have been made by a process that was killed before it could see to this.
    """
    above = folder.absolute().parent
    if folder.is_dir():
        with os.scandir(folder) as entries:
            is_named = next(entries, None) is not None
    else:
        if above != folder.absolute():
            make_folders(above)
        with suppress(FileExistsError):  # by another writer at this moment, or a file, which is told when it is opened
            os.mkdir(folder)
        is_named = False
    if not is_named:
        with suppress(PermissionError):  # a folder that one may write into, or pass through, but not read
            _sync_folder(above)


def list_entries(folder: Path) -> list[Entry]:
    """Return (path relative to the folder with "/", bytes, time of change) of all files below it, sorted by path.

    What a killed writer left behind, and a link that points nowhere, is not listed; no folder is listed twice.
    """
    return list_below(folder, None).entries


def list_below(folder: Path, roots: Sequence[Path] | None) -> Listing:
    """Return the files below ``roots`` as ``list_entries`` does, links resolved, and the links that lead elsewhere."""
    with explained("list", folder):
        status = _status(folder)
        if status is None:
            return Listing()
        if not stat.S_ISDIR(status.st_mode):
            raise StorageError(f"cannot list {folder}: expected a folder, found a file")
        found = walk(folder, roots)
    entries = [entry for entry in found.entries if is_content(entry[0].rpartition("/")[2])]
    return Listing(entries=entries, outside=found.outside)


def delete_tree(path: Path) -> None:
    """Delete a file or a folder with all below it."""
    with explained("delete", path), fences.passing(str(path)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not _unlink(path):
            return
        _sync_folder(path.absolute().parent)  # what was withdrawn does not come back


def part_of(path: Path) -> Path:
    """Return a name beside ``path`` that no other writer uses and no listing shows."""
    return path.with_name(f".{path.name[:150]}.{uuid.uuid4().hex}{PART_SUFFIX}")


class _DraftFile(io.RawIOBase):
    """A new file under a name that no other writer uses; gone at the end unless it was published."""

    def __init__(self, path: Path) -> None:
        self._path = part_of(path)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all of it: one call of the system writes at most 2 GiB, and may write less than it was given."""
        view, written = memoryview(data).cast("B"), 0
        while written < len(view):
            written += os.write(self._descriptor, view[written:])
        return written

    def publish(self, path: Path, *, if_absent: bool) -> None:
        """Give the file its name, after its content: no crash of the machine leaves a short file."""
        os.fsync(self._descriptor)
        _refuse_special(path)
        with fences.passing(str(path)):
            if if_absent:
                try:
                    os.link(self._path, path)  # unlike a rename, fails if the name is taken
                except FileExistsError as error:
                    raise FileAlreadyThereError(f"{path}: is there already") from error
            else:
                os.replace(self._path, path)
        _sync_folder(path.parent)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)
            _unlink(self._path)


def _refuse_special(path: Path) -> None:
    """Refuse a device or a pipe: a rename would put a file in its place, for everybody on the machine."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise StorageError(f"cannot write {path}: expected a file, found a pipe, a socket or a device")


def _sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk, so that a file that names another is never there without it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP):
            return None
        raise


def _read_range(descriptor: int, start: int, end: int) -> bytes:
    if start >= end:
        return b""
    os.lseek(descriptor, start, os.SEEK_SET)
    pieces, missing = [], end - start
    while missing > 0 and (piece := os.read(descriptor, missing)):
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _unlink(path: Path) -> bool:
    """Delete a file; return whether there was one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
