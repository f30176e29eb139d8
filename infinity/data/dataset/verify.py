"""Is a data set what its manifest says? Every shard is read once, as a stream; nothing is extracted or executed."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ShardInfo

_CHUNK_BYTES = 4 * 2**20
_MEMBER = re.compile(r"[0-9a-f]{20}(-[0-9]+)?\.(jpg|png|webp|txt|json)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that is not as the manifest says: a slug, where, and what was expected and found."""

    kind: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.detail}"


class ShardReader(io.RawIOBase):
    """A shard that is read forward in pieces, hashed on the way."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._buffer = b""
        self.num_bytes = 0
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self.readall()
        if not self._buffer:
            self._buffer = storage.read_bytes(self._uri, start=self.num_bytes, length=_CHUNK_BYTES)
            self.digest.update(self._buffer)
            self.num_bytes += len(self._buffer)
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(_CHUNK_BYTES):
            pieces.append(piece)
        return b"".join(pieces)


def verify(manifest: Manifest) -> tuple[Fault, ...]:
    """Return everything that is wrong with a data set; nothing is wrong if it is empty.

    Checked are the counts of the head, the checksums of the files of rows, the order and completeness of the rows, and
    of every shard: its size, its checksum, the names and the order of its files, and that every row leads to the bytes
    with its checksum.

    Raises:
        StorageError: The storage refuses; a missing shard is a fault, not an error.
    """
    faults = _check_counts(manifest) + _check_parts(manifest)
    rows = _rows_by_shard(manifest.table)
    for shard in manifest.head.shards:
        faults += verify_shard(manifest.shard_uri(shard.path), shard, rows.pop(shard.path, []))
    faults += [
        Fault(kind="unknown_shard", where=path, detail=f"{len(lines)} rows lie in a shard that the head does not name")
        for path, lines in rows.items()
    ]
    return tuple(faults)


def verify_shard(uri: str, shard: ShardInfo, rows: list[dict[str, Any]]) -> list[Fault]:
    """Return what is wrong with one shard.

    Args:
        uri: Place of the shard.
        shard: Description of the shard in the head of the manifest.
        rows: Rows of the manifest that lie in the shard, in order.
    """
    if len(rows) != shard.num_samples:
        return [_fault("wrong_count", uri, f"{shard.num_samples} rows", f"{len(rows)} in the table")]
    try:
        size = storage.size(uri)
    except storage.FileMissingError:
        return [_fault("missing_shard", uri, f"{shard.num_bytes:,} bytes", "no file")]
    faults = [] if size == shard.num_bytes else [_fault("wrong_size", uri, f"{shard.num_bytes:,} bytes", f"{size:,}")]
    reader = ShardReader(uri)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r|") as tar:
            faults += _check_members(uri, tar, rows)
    except (tarfile.TarError, EOFError) as error:
        faults.append(_fault("broken_tar", uri, "a whole tar file", str(error)))
    reader.readall()
    if (found := reader.digest.hexdigest()) != shard.sha256:
        faults.append(_fault("wrong_checksum", uri, shard.sha256, found))
    return faults


def _check_members(uri: str, tar: tarfile.TarFile, rows: list[dict[str, Any]]) -> list[Fault]:
    """Compare the files of a shard with its rows: three per row, the picture first, in order."""
    faults: list[Fault] = []
    position = 0
    for member in tar:
        number, part = divmod(position, 3)
        position += 1
        if number >= len(rows):
            faults.append(_fault("unknown_file", uri, f"{3 * len(rows)} files", member.name))
            continue
        row = rows[number]
        expected = f"{row['key']}.{(row['extension'], 'txt', 'json')[part]}"
        if member.name != expected or not member.isreg() or not _MEMBER.fullmatch(member.name):
            faults.append(_fault("wrong_order", uri, expected, f"{member.name!r} as file {position}"))
            return faults  # everything behind would be out of order too
        faults += _check_content(uri, tar, member, row, part)
    if position < 3 * len(rows):
        faults.append(_fault("short_shard", uri, f"{3 * len(rows)} files", str(position)))
    return faults


def _check_content(
    uri: str, tar: tarfile.TarFile, member: tarfile.TarInfo, row: dict[str, Any], part: int
) -> list[Fault]:
    where = f"{uri} {member.name}"
    file = tar.extractfile(member)  # a view into the stream, not a file on the disk
    data = file.read() if file is not None else b""
    if part == 1 and data != row["caption"].encode():
        return [_fault("wrong_caption", where, repr(row["caption"]), repr(data[:200].decode("utf-8", "replace")))]
    if part != 0:
        return []
    faults = []
    if (member.offset_data, member.size) != (row["offset"], row["num_bytes"]):
        expected, found = f"{row['num_bytes']} bytes at {row['offset']}", f"{member.size} at {member.offset_data}"
        faults.append(_fault("wrong_place", where, expected, found))
    if (found := hashlib.sha256(data).hexdigest()) != row["sha256"]:
        faults.append(_fault("wrong_picture", where, row["sha256"], found))
    return faults


def _check_parts(manifest: Manifest) -> list[Fault]:
    """Return faults of the files that hold the rows of a large manifest."""
    faults = []
    for part in manifest.parts:
        uri = storage.join(storage.parent(manifest.uri), part.path)
        if (found := storage.sha256(uri)) != part.sha256:
            faults.append(_fault("wrong_rows", uri, f"the checksum {part.sha256}", found))
    return faults


def _check_counts(manifest: Manifest) -> list[Fault]:
    counts, where = manifest.head.counts, manifest.uri
    faults = []
    if counts.get("kept") != len(manifest):
        faults.append(_fault("wrong_count", where, f"{counts.get('kept')} kept", f"{len(manifest)} rows"))
    rest = sum(number for name, number in counts.items() if name != "read")
    if counts.get("read") != rest:
        faults.append(
            _fault("wrong_count", where, f"{counts.get('read')} read", f"{rest} kept, dropped and unreadable")
        )
    if (unreadable := sum(manifest.head.unreadable.values())) != counts.get("unreadable", 0):
        faults.append(
            _fault("wrong_count", where, f"{counts.get('unreadable', 0)} unreadable", f"{unreadable} by reason")
        )
    repeated = [key for key, number in Counter(manifest.table["key"].to_pylist()).items() if number > 1]
    faults += [_fault("repeated_key", where, "every key once", key) for key in repeated[:10]]
    return faults


def _rows_by_shard(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    columns = ["key", "shard", "offset", "num_bytes", "extension", "caption", "sha256"]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.select(columns).to_pylist():
        found.setdefault(row["shard"], []).append(row)
    return found


def _fault(kind: str, where: str, expected: str, found: str) -> Fault:
    return Fault(kind=kind, where=where, detail=f"expected {expected}, found {found}")
