"""Bytes at a URI: a local path, ``file://...`` or ``s3://bucket/key``; for reading also ``zip://<archive>!/name``.

Every room reads and writes through these functions, so that a folder may lie on a disk or in a bucket. A written file
is either whole or absent. S3 is configured by the standard ``AWS_*`` variables alone.

A folder may have one owner (`infinity.storage.leases`): then every write and deletion in it, by whichever function
here, raises ``LeaseLostError`` instead where another process has become the owner. ``backends`` holds the two kinds of
place; this page is where to start reading.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from infinity.storage.backends import archives, local
from infinity.storage.backends.archives import inside_archive, inside_join, is_archive, is_inside_archive, left_out
from infinity.storage.backends.remote import download_remote, remote, writable
from infinity.storage.errors import (
    EntryError,
    FileAlreadyThereError,
    FileMissingError,
    LeaseHeldError,
    LeaseLostError,
    PlaceRefusedError,
    StorageError,
    StoreUnreachableError,
)
from infinity.storage.inside import inside as inside_places
from infinity.storage.outages import patience, patient, stay_patient
from infinity.storage.places import SCHEME, below, join, local_path, named

__all__ = [
    "Draft",
    "EntryError",
    "FileAlreadyThereError",
    "FileInfo",
    "FileMissingError",
    "LeaseHeldError",
    "LeaseLostError",
    "PlaceRefusedError",
    "StorageError",
    "StoreUnreachableError",
    "absolute",
    "create",
    "delete_tree",
    "download_folder",
    "draft",
    "exists",
    "inside",
    "inside_archive",
    "inside_join",
    "is_archive",
    "is_inside_archive",
    "join",
    "left_out",
    "list_details",
    "list_files",
    "list_inside",
    "local_copy",
    "local_path",
    "name",
    "parent",
    "patience",
    "patient",
    "put_once",
    "read_bytes",
    "read_text",
    "sha256",
    "size",
    "stay_patient",
    "upload_folder",
    "write_bytes",
    "write_text",
]

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One listed file: its URI, size, and a text that changes with the content: time of change, or the ETag in S3."""

    uri: str
    num_bytes: int
    version: str


class Draft(Protocol):
    """A file that is written piece by piece and gets its name at the end, for example one made from its content."""

    def write(self, data: bytes, /) -> int:
        """Append data and return the number of bytes."""
        ...

    def publish(self, name: str) -> bool:
        """Make the file appear under ``name``, whole; False if a file of that name was there, which then stays."""
        ...


def name(uri: str) -> str:
    """Return the last part of a URI: the file's or folder's own name."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def parent(uri: str) -> str:
    """Return the URI of the folder that holds this file or folder; "." for a bare name."""
    head, slash, _ = uri.rstrip("/").rpartition("/")
    return (head or "/") if slash else "."


def absolute(uri: str) -> str:
    """Return the same place for processes with another working directory; only relative local paths change."""
    return uri if SCHEME.match(uri) else str(Path(named(uri)).absolute())


def exists(uri: str) -> bool:
    """Return whether a file is there, or a folder (in S3: a prefix that holds at least one file).

    Raises:
        StorageError: The place cannot be asked: no such bucket, refused credentials, no connection.
    """
    path = local_path(uri)
    return remote(uri).exists(uri) if path is None else local.exists(path)


def read_bytes(uri: str, *, start: int | None = None, length: int | None = None) -> bytes:
    """Return a whole file, or ``length`` bytes from offset ``start``; fewer where the file ends before.

    Raises:
        FileMissingError: There is no such file.
        StorageError: The file cannot be read.
    """
    offset = start or 0
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"{uri}: expected a start and a length of at least 0, got {start} and {length}")
    path = local_path(uri)
    return remote(uri).read(uri, offset, length) if path is None else local.read(path, offset, length)


def read_text(uri: str) -> str:
    """Return a whole UTF-8 file, without the byte order mark that some editors put before it.

    Raises:
        StorageError: The file is missing, unreadable or not UTF-8.
    """
    try:
        return read_bytes(uri).decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise StorageError(
            f"{uri}: expected UTF-8 text, found byte {error.object[error.start]:#x} at offset {error.start}"
        ) from error


def write_bytes(uri: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
    """Write a file as a whole, making its folders; readers see the old content or the new, never a part.

    Args:
        uri: Place of the file.
        if_absent: Write only if nothing is there; of several writers exactly one succeeds.

    Raises:
        FileAlreadyThereError: ``if_absent`` and the file is there.
        StorageError: No space left, no such bucket, refused credentials and the like.
    """
    path = local_path(uri)
    if path is None:
        writable(uri).write(uri, bytes(data), if_absent=if_absent)
    else:
        local.write(path, data, if_absent=if_absent)


def write_text(uri: str, text: str, *, if_absent: bool = False) -> None:
    """Write a text in UTF-8, as ``write_bytes`` does."""
    write_bytes(uri, text.encode("utf-8"), if_absent=if_absent)


@contextmanager
def create(uri: str) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece; it gets its name, whole, when the block ends without an error.

    Raises:
        StorageError: No space left, no such bucket, refused credentials and the like; from inside the block too.
    """
    path = local_path(uri)
    with writable(uri).create(uri) if path is None else local.create(path) as file:
        yield file


@contextmanager
def draft(folder: str) -> Iterator[Draft]:
    """Open a file in a folder whose name is not known before it is written; without ``publish`` nothing stays.

    Raises:
        StorageError: No space left, no such bucket, refused credentials and the like; from inside the block too.
    """
    path = local_path(folder)
    with writable(folder).draft(folder) if path is None else local.draft(path) as file:
        yield file


def put_once(uri: str, data: bytes | memoryview) -> bool:
    """Write a file that never changes: absent before, or there with the same content; return whether it was absent.

    So a writer that was killed, or whose answer was lost, may write again.

    Raises:
        FileAlreadyThereError: The file is there with another content.
        StorageError: No space left, no such bucket, refused credentials and the like.
    """
    try:
        write_bytes(uri, data, if_absent=True)
    except FileAlreadyThereError as error:
        if read_bytes(uri) != data:
            raise FileAlreadyThereError(f"{uri}: is there already, with another content") from error
        return False
    return True


def list_files(uri: str) -> tuple[str, ...]:
    """Return URIs of all files below a folder, sub-folders included, sorted; empty if the folder is empty or absent.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    return tuple(info.uri for info in list_details(uri))


def list_details(uri: str) -> tuple[FileInfo, ...]:
    """Return size and version of every file that ``list_files`` lists.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    entries = remote(uri).list_entries(uri) if path is None else local.list_entries(path)
    return _infos(uri, entries)


def list_inside(uri: str, roots: Sequence[str]) -> tuple[tuple[FileInfo, ...], tuple[str, ...]]:
    """Return the details of all files below ``roots``, and the URIs of links that lead to another place, sorted.

    Args:
        uri: A folder, which must be among the roots to be listed.
        roots: URIs below which everything must lie, links resolved. What a link to another place leads to is not
            looked at.

    Raises:
        StorageError: The folder cannot be listed: no such bucket, refused credentials.
    """
    path = local_path(uri)
    if path is None:
        return _infos(uri, remote(uri).list_entries(uri)), archives.outside(uri)
    found = local.list_below(path, [root for each in roots if (root := local_path(each)) is not None])
    return _infos(uri, found.entries), tuple(below(uri, relative) for relative in found.outside)


def inside(roots: Sequence[str]) -> Callable[[str], bool]:
    """Return a test whether a place lies below given ones, links resolved; a URI of a foreign scheme does not.

    Args:
        roots: URIs of folders.

    Raises:
        ValueError: The returned test was asked about a path that no file can have.
    """
    test = inside_places([local_path(root) or root for root in roots])

    def is_inside(uri: str) -> bool:
        try:
            return test(local_path(uri) or uri)
        except StorageError:
            return False

    return is_inside


def _infos(uri: str, entries: Sequence[tuple[str, int, str]]) -> tuple[FileInfo, ...]:
    return tuple(FileInfo(below(uri, relative), num_bytes, version) for relative, num_bytes, version in entries)


def delete_tree(uri: str) -> None:
    """Delete a file, or a folder with all below it; nothing there is no error.

    Raises:
        StorageError: The file or folder cannot be deleted.
    """
    path = local_path(uri)
    if path is None:
        writable(uri).delete_tree(uri)
    else:
        local.delete_tree(path)


def upload_folder(folder: Path | str, uri: str) -> None:
    """Copy all files of a local folder to a URI, in sorted order.

    Raises:
        StorageError: The folder is absent, or a file cannot be read or written.
    """
    source = Path(folder)
    if not source.is_dir():
        raise FileMissingError(f"{source}: expected a folder to copy from, found none")
    for relative, _, _ in local.list_entries(source):
        target = below(uri, relative)
        path = local_path(target)
        if path is None:
            writable(target).upload_file(source / relative, target)
        else:
            local.copy(source / relative, path)


def download_folder(uri: str, folder: Path | str) -> None:
    """Copy all files below a URI into a local folder, which is made.

    Raises:
        StorageError: There is no file below the URI, or one cannot be read or written.
    """
    source = local_path(uri)
    entries = remote(uri).list_entries(uri) if source is None else local.list_entries(source)
    if not entries:
        raise FileMissingError(f"{uri}: expected a folder to copy from, found no files")
    for relative, _, _ in entries:
        target = Path(folder) / relative
        if source is None:
            download_remote(join(uri, relative), target)
        else:
            local.copy(source / relative, target)


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Give a local file with the content of a URI: the file itself, or a copy that is deleted after the block.

    A copy is written piece by piece, so that memory holds no more than some pieces. TMPDIR says where.

    Raises:
        StorageError: The file is missing or unreadable, or there is no room for the copy.
    """
    path = local_path(uri)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="infinity-") as folder:
        copy = Path(folder) / "copy"
        download_remote(uri, copy)
        yield copy


def size(uri: str) -> int:
    """Return the size of a file in bytes.

    Raises:
        StorageError: The file is missing or unreadable.
    """
    path = local_path(uri)
    return remote(uri).size(uri) if path is None else local.size(path)


def sha256(uri: str) -> str:
    """Return 64 hexadecimal digits over the file's bytes, read in pieces.

    Raises:
        StorageError: The file is missing or unreadable.
    """
    digest, offset = hashlib.sha256(), 0
    while piece := read_bytes(uri, start=offset, length=_CHUNK_BYTES):
        digest.update(piece)
        offset += len(piece)
        if len(piece) < _CHUNK_BYTES:
            break
    return digest.hexdigest()
