"""Files on this machine: atomic writes and clear errors."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from infinity.storage.errors import FileAlreadyThereError, FileMissingError, StorageError

_PART_SUFFIX = ".part"
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
    """Turn the operating system's errors into a StorageError that names the path and the reason."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise FileMissingError(f"cannot {action} {path}: there is no such file or folder") from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"cannot {action} {path}: {reason}") from error
    except ValueError as error:
        if "\0" not in str(path) and not isinstance(error, UnicodeEncodeError):
            raise  # not about the path
        raise StorageError(f"cannot {action} {str(path)!r}: a file name cannot hold these characters") from error


def exists(path: Path) -> bool:
    """Whether a file or folder is there."""
    with explained("look for", path):
        return path.exists()


def read(path: Path, start: int, length: int | None) -> bytes:
    """``length`` bytes from ``start``, or all from there."""
    with explained("read", path), path.open("rb") as file:
        if start:
            file.seek(start)
        if length is None:
            return file.read()
        # Python makes room for all that is asked for, so ask for no more than there is.
        return file.read(max(0, min(length, os.fstat(file.fileno()).st_size - start)))


def size(path: Path) -> int:
    """Bytes of a file."""
    with explained("look at", path):
        return path.stat().st_size


def write(path: Path, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
    """Write a temporary neighbour, flush it to the disk, then give it its name in one step."""
    with explained("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(path)
        try:
            _write_new(part, memoryview(data).cast("B"))
            _publish(part, path, if_absent=if_absent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A temporary neighbour to write into, which gets its name at the end."""
    with explained("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(path)
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copy one file so that the target is whole or absent."""
    with explained("copy to", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(target)
        try:
            shutil.copyfile(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def list_entries(folder: Path) -> list[tuple[str, int, str]]:
    """(path relative to the folder with "/", bytes, time of change) of all files below it, sorted by path.

    What a killed writer left behind, and a link that points nowhere, is not listed.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[tuple[str, int, str]] = []
    with explained("list", folder):
        if not folder.exists():
            return found
        if not folder.is_dir():
            raise StorageError(f"cannot list {folder}: expected a folder, found a file")
        for root, _, names in os.walk(folder, onerror=fail, followlinks=True):
            base = Path(root).relative_to(folder)
            for file in names:
                path = Path(root, file)
                if not _is_part(file) and path.exists():
                    status = path.stat()
                    found.append(((base / file).as_posix(), status.st_size, str(status.st_mtime_ns)))
    return sorted(found)


def delete_tree(path: Path) -> None:
    """Delete a file or a folder with all below it."""
    with explained("delete", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A name beside ``path`` that no other writer uses and no listing shows."""
    return path.with_name(f".{path.name[:150]}.{uuid.uuid4().hex}{_PART_SUFFIX}")


def _is_part(file: str) -> bool:
    return file.startswith(".") and file.endswith(_PART_SUFFIX)


def _write_new(part: Path, data: memoryview) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        written = 0
        while written < len(data):  # one call writes at most 2 GiB
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)  # else a crash of the machine may leave an empty file under the final name
    finally:
        os.close(descriptor)


def _publish(part: Path, path: Path, *, if_absent: bool) -> None:
    if not if_absent:
        part.replace(path)
        return
    try:
        os.link(part, path)  # unlike a rename, fails if the name is taken
    except FileExistsError as error:
        raise FileAlreadyThereError(f"{path}: is there already") from error
