"""Files inside a zip archive, read where they lie: ``zip://<archive>!/<name>``, the archive on a disk or in S3.

Nothing is unpacked to a disk, and nothing is written. An archive may come from a stranger: what an entry unpacks to is
bounded, entries may not overlap, and names that lead out of the archive are no files of it.
"""

from __future__ import annotations

import bz2
import io
import posixpath
import struct
import threading
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import lru_cache

from infinity.storage.backends import local, s3
from infinity.storage.backends.positions import SeekingReader
from infinity.storage.errors import EntryError, FileMissingError, StorageError
from infinity.storage.places import local_path

SCHEME = "zip://"
ENDING = ".zip"
_MARK = "!/"

MAX_ENTRY_BYTES = 2**28
"""Largest content of an entry that is read; larger ones are named as too large."""

MAX_RATIO = 200
"""Largest ratio of content to packed bytes, for entries above ``_SMALL_BYTES``."""

_SMALL_BYTES = 2**24
_MAX_DIRECTORY_BYTES = 2**27
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED, _UTF8, _UNICODE_PATH = 1, 0x800, 0x7075
_LINK_MODE, _MODE_MASK = 0o120000, 0o170000
_BROKEN = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, OSError, struct.error)
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bzip2"}


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry of an archive.

    Attributes:
        offset: Offset of its local header in the archive.
        num_bytes: Bytes of its content, as the archive states them.
        crc: Checksum of its content.
        method: Number of the compression method.
        fault: Reason why it cannot be read; empty where it can.
    """

    offset: int
    packed: int
    num_bytes: int
    crc: int
    method: int
    fault: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveListing:
    """Entries of an archive.

    Attributes:
        entries: Files by name; of several of one name the last, which counts when the archive is unpacked.
        outside: Names that lead out of the archive, or that no file can have.
        left_out: Entries that are no files here, each as name and reason.
    """

    entries: dict[str, ArchiveEntry] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def is_inside_archive(uri: str) -> bool:
    """Return whether a URI names an archive's inside, or a file in it."""
    return uri[: len(SCHEME)].lower() == SCHEME


def split(uri: str) -> tuple[str, str]:
    """Return the archive's URI, and the name inside it; empty for the whole inside.

    Example:
        >>> split("zip:///data/a.zip!/b/c.png"), split("zip://s3://bucket/a.zip!")
        (('/data/a.zip', 'b/c.png'), ('s3://bucket/a.zip', ''))
    """
    rest = uri[len(SCHEME) :]
    at = rest.lower().find(ENDING + _MARK)
    if at >= 0:
        return rest[: at + len(ENDING)], rest[at + len(ENDING + _MARK) :]
    return rest.removesuffix("!"), ""


def inside_archive(uri: str) -> str:
    """Return the URI of all that a zip archive holds, as a folder; its files are only read."""
    return f"{SCHEME}{uri}!"


def is_archive(uri: str) -> bool:
    """Return whether a file is an archive that is read as a folder, by its name."""
    return uri.lower().endswith(ENDING) and not is_inside_archive(uri)


def left_out(uri: str) -> tuple[tuple[str, str], ...]:
    """Return the URIs of entries that are no files of an archive, each with the reason.

    Args:
        uri: Result of ``inside_archive``.

    Raises:
        StorageError: The archive cannot be read.
    """
    return tuple((f"{uri}/{name}", why) for name, why in listing(split(uri)[0]).left_out)


def outside(uri: str) -> tuple[str, ...]:
    """Return the URIs of entries that lead out of an archive, or that no file can have, in order."""
    if not is_inside_archive(uri):
        return ()
    return tuple(f"{uri}/{name}" for name in listing(split(uri)[0]).outside)


def inside_join(folder: str, name: str) -> str:
    """Return the URI of a name in a folder of an archive; one that climbs out of the archive keeps its dots.

    Example:
        >>> inside_join("zip:///a.zip!/b", "../c.png"), inside_join("zip:///a.zip!", "../c.png")
        ('zip:///a.zip!/c.png', 'zip:///a.zip!/../c.png')
    """
    archive, inner = split(folder)
    return f"{SCHEME}{archive}{_MARK}{posixpath.normpath(posixpath.join(inner, name))}"


def exists(uri: str) -> bool:
    """Return whether an archive has a file of this name, or one below it."""
    archive, name = split(uri)
    entries = listing(archive).entries
    return name in entries or not name or any(each.startswith(name.rstrip("/") + "/") for each in entries)


def size(uri: str) -> int:
    """Return the bytes of a file's content, as the archive states them."""
    return _entry(uri)[1].num_bytes


def read(uri: str, start: int, length: int | None) -> bytes:
    """Return a part of a file's content, which is unpacked as a whole and kept for the next call.

    Raises:
        EntryError: The entry cannot be read: it is encrypted, damaged, too large or of an unknown form.
        StorageError: The archive cannot be read.
    """
    archive, entry = _entry(uri)
    if entry.fault:
        raise EntryError(f"{uri}: {entry.fault}")
    data = _kept(uri, archive, entry)
    return data[start:] if length is None else data[start : start + length]


def list_entries(uri: str) -> list[tuple[str, int, str]]:
    """Return (name below the URI, bytes, checksum) of all files, sorted by name."""
    archive, folder = split(uri)
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    found = listing(archive).entries.items()
    return sorted((n[len(prefix) :], e.num_bytes, f"{e.crc:08x}") for n, e in found if n.startswith(prefix))


def listing(archive: str) -> ArchiveListing:
    """Return the entries of an archive, read once as long as the archive does not change.

    Raises:
        FileMissingError: There is no such archive.
        StorageError: It is no zip archive, or cannot be read.
    """
    return _listing(archive, *_version(archive))


def _version(archive: str) -> tuple[int, str]:
    path = local_path(archive)
    if path is None:
        return s3.head(archive)
    with local.explained("read", path):
        about = path.stat()
    return about.st_size, f"{about.st_ino} {about.st_mtime_ns}"


@lru_cache(maxsize=16)
def _listing(archive: str, num_bytes: int, version: str) -> ArchiveListing:
    try:
        with zipfile.ZipFile(_Bytes(archive, num_bytes)) as file:
            infos = file.infolist()
    except StorageError:
        raise
    except _BROKEN as error:
        raise StorageError(f"{archive}: expected a zip archive, found one that cannot be read ({error})") from error
    found = ArchiveListing()
    overlapping = _overlapping(infos)
    for info in infos:
        _add(found, info, info.header_offset in overlapping)
    return found


def _add(found: ArchiveListing, info: zipfile.ZipInfo, overlaps: bool) -> None:
    raw = _decoded_name(info)
    name = raw.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.endswith("/") and not info.file_size:
        return  # a folder
    is_drive = bool(parts) and len(parts[0]) == 2 and parts[0][1] == ":"
    if not parts or name.startswith("/") or ".." in parts or is_drive or "\0" in name:
        found.outside.append(raw.replace("\0", "\\0"))
        return
    if info.external_attr >> 16 & _MODE_MASK == _LINK_MODE:
        found.left_out.append(("/".join(parts), "links in an archive"))
        return
    plain = "/".join(parts)
    if plain in found.entries:
        found.left_out.append((plain, "earlier entries of an archive of which a later one has the same name"))
    found.entries[plain] = ArchiveEntry(
        info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type, _fault(info, overlaps)
    )


def _decoded_name(info: zipfile.ZipInfo) -> str:
    """Return the name of an entry; many programs write UTF-8 without saying so, and some say it in a field."""
    name = info.orig_filename
    if info.flag_bits & _UTF8:
        return name
    try:
        raw = name.encode("cp437")
        return (_unicode_path(info.extra, raw) or raw).decode("utf-8")
    except UnicodeError:
        return name


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _UNICODE_PATH and size > 5 and struct.unpack_from("<xI", extra, 4)[0] == zlib.crc32(raw):
            return extra[9 : 4 + size]
        extra = extra[4 + size :]
    return None


def _fault(info: zipfile.ZipInfo, overlaps: bool) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "the entry is encrypted; unpack the archive with its password and give the folder"
    if info.compress_type not in _METHODS:
        known = ", ".join(_METHODS.values())
        return f"expected an entry packed by {known}, found method {info.compress_type}; pack the archive again"
    if overlaps:
        return "the entry overlaps with others, as in a zip bomb"
    if info.file_size > MAX_ENTRY_BYTES:
        return f"an entry of {info.file_size:,} bytes, more than {MAX_ENTRY_BYTES:,}; unpack the archive first"
    if info.file_size > max(_SMALL_BYTES, MAX_RATIO * info.compress_size):
        return f"{info.compress_size:,} bytes that unpack to {info.file_size:,}, as in a zip bomb"
    return ""


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Return the offsets of entries that reach into another one."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    found: set[int] = set()
    end, last = 0, -1
    for info in ordered:
        if info.header_offset < end:
            found |= {info.header_offset, last}
        if (own := info.header_offset + _LOCAL_HEADER.size + info.compress_size) > end:
            end, last = own, info.header_offset
    return found


def _entry(uri: str) -> tuple[str, ArchiveEntry]:
    archive, name = split(uri)
    entry = listing(archive).entries.get(name)
    if entry is None:
        raise FileMissingError(f"{uri}: there is no such file in the archive")
    return archive, entry


_last: dict[int, tuple[tuple[str, ArchiveEntry], bytes]] = {}
"""By thread, the content that was unpacked last: files are often read in several parts."""


def _kept(uri: str, archive: str, entry: ArchiveEntry) -> bytes:
    thread = threading.get_ident()
    known = _last.get(thread)
    if known is not None and known[0] == (uri, entry):
        return known[1]
    data = _unpacked(uri, archive, entry)
    if len(_last) > 64:  # threads that are gone
        _last.clear()
    _last[thread] = (uri, entry), data
    return data


def _unpacked(uri: str, archive: str, entry: ArchiveEntry) -> bytes:
    head = _read(archive, entry.offset, _LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size or not head.startswith(b"PK\3\4"):
        raise EntryError(f"{uri}: damaged: expected an entry at offset {entry.offset} of the archive, found none")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)
    packed = _read(archive, entry.offset + _LOCAL_HEADER.size + name_bytes + extra_bytes, entry.packed)
    try:
        data = packed if entry.method == zipfile.ZIP_STORED else _inflated(entry, packed)
    except (zlib.error, OSError, ValueError, EOFError) as error:
        raise EntryError(f"{uri}: damaged: {error}") from error
    if len(data) != entry.num_bytes or zlib.crc32(data) != entry.crc:
        raise EntryError(f"{uri}: damaged: its content has not the size and checksum that the archive states")
    return data


def _inflated(entry: ArchiveEntry, packed: bytes) -> bytes:
    # One byte more than stated is enough to see that the statement is wrong.
    if entry.method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, entry.num_bytes + 1)
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, entry.num_bytes + 1)


def _read(archive: str, start: int, length: int) -> bytes:
    if length == 0:
        return b""
    path = local_path(archive)
    return s3.read(archive, start, length) if path is None else local.read(path, start, length)


class _Bytes(SeekingReader):
    """An archive for the reader of its directory, which seeks; a directory too large for memory is refused."""

    def __init__(self, archive: str, num_bytes: int) -> None:
        super().__init__(num_bytes)
        self._archive = archive

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if super().seek(offset, whence) < 0:
            raise OSError("a place before its begin")
        return self._position

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._num_bytes - self._position)
        wanted = rest if size < 0 else min(size, rest)
        if wanted > _MAX_DIRECTORY_BYTES:
            raise StorageError(
                f"{self._archive}: its directory has more than {_MAX_DIRECTORY_BYTES:,} bytes; unpack it first"
            )
        data = _read(self._archive, self._position, wanted)
        self._position += len(data)
        return data
