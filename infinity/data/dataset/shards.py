"""The second pass: webdataset shards, tar files whose bytes depend on their samples alone.

A sample is three files with one name: the picture, ``.txt`` with its caption, and ``.json`` with its size and origin.
The original bytes of a picture are kept wherever they show the right pixels to every reader; else a PNG takes their
place.

A shard is named by its content and never changes. Beside it lies an index, named by the plan that the shard was
written for: whoever has the same plan again, after a kill or for another version of the data set, finds the shard
without reading a picture.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, BinaryIO, cast

import pyarrow as pa

from infinity import storage
from infinity.config import ConfigError, parse_json
from infinity.data.dataset.layout import Origin, ShardPlan
from infinity.data.dataset.manifest import ManifestError
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.dataset.manifest_rows import FULL_SCHEMA
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Slice
from infinity.data.sources.samples import Record, SourceError
from infinity.data.tables import table_of

SHARDS_FOLDER = "shards"
INDEX_FOLDER = "shards/index"

_HEADER_BYTES = tarfile.BLOCKSIZE  # of a member with a short name


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenShard:
    """A shard that lies in its place, and its rows of the manifest."""

    info: ShardInfo
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class ShiftedSlice:
    """A slice of one source among several: its rows begin behind those of the sources before."""

    piece: Slice
    shift: int

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        return self.piece.first_row + self.shift

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records, or those of ``wanted`` rows."""
        inner = None if wanted is None else frozenset(row - self.shift for row in wanted)
        for record in self.piece.read(inner):
            yield replace(record, row=record.row + self.shift)


def write_shard(plan: ShardPlan, slices: Sequence[Slice], root: str, max_pixels: int) -> WrittenShard:
    """Write one shard and, after it, its index; what is there already is not written again.

    One picture is in memory at a time, however many the shard holds.

    Args:
        slices: The slices of the source that hold the plan's samples without an origin, in order.
        root: URI of the folder whose ``shards`` folder all versions of a data set share.
        max_pixels: Limit of the first pass: larger pictures are unreadable.

    Raises:
        SourceError: A picture is not what it was in the first pass.
        ManifestError: A shard of an earlier version is not what its manifest says.
        StorageError: The source cannot be read or the shard not be written.
    """
    index = storage.join(root, INDEX_FOLDER, f"{plan.digest}.json")
    if (found := _from_index(index, root)) is not None:
        return found
    samples = plan.samples.to_pylist()
    wanted = frozenset(sample["row"] for sample in samples if sample["key"] not in plan.origins)
    records = chain.from_iterable(piece.read(wanted) for piece in slices)
    rows: list[dict[str, Any]] = []
    with storage.draft(storage.join(root, SHARDS_FOLDER)) as file:
        hashed = _HashedFile(file)
        with tarfile.open(fileobj=cast(BinaryIO, hashed), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                origin = plan.origins.get(sample["key"])
                image = _from_origin(origin) if origin else _from_source(sample, next(records, None), max_pixels)
                rows.append(_add_sample(tar, plan, sample, image))
        sha256 = hashed.digest.hexdigest()
        name = f"{plan.split}-{plan.aspect_ratio:.3f}-{sha256[:32]}.tar"
        file.publish(name)
    path = storage.join(SHARDS_FOLDER, name)
    info = ShardInfo(path=path, num_bytes=hashed.num_bytes, num_samples=len(rows), sha256=sha256)
    rows = [row | {"shard": path} for row in rows]
    storage.write_text(index, json.dumps({"info": info.to_json(), "rows": rows}, ensure_ascii=True))
    return WrittenShard(info=info, rows=table_of(rows, FULL_SCHEMA))


def _from_index(uri: str, root: str) -> WrittenShard | None:
    """Return the shard that was written for this plan, if it is still there."""
    try:
        text = storage.read_bytes(uri)
    except storage.FileMissingError:
        return None
    try:
        data = parse_json(text, where=uri)
        info = ShardInfo.from_json(data["info"], where=uri)
        rows = pa.Table.from_pylist(data["rows"], schema=FULL_SCHEMA)  # whatever lies there
    except (KeyError, TypeError, AttributeError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{uri}: expected the index of a shard ({error}); delete it to write it again") from error
    try:
        size = storage.size(storage.join(root, info.path))
    except storage.FileMissingError:
        return None  # somebody collected it; its index is about to be replaced
    if size != info.num_bytes:
        raise ManifestError(f"{root}/{info.path}: expected {info.num_bytes:,} bytes, found {size:,}; delete it")
    return WrittenShard(info=info, rows=rows)


def _add_sample(tar: tarfile.TarFile, plan: ShardPlan, sample: dict[str, Any], image: bytes) -> dict[str, Any]:
    """Append the three files of one sample and return its row of the manifest, without the shard's name."""
    key = sample["key"]
    told = {name: sample[name] for name in ("url", "caption_long", "caption_short") if sample[name] is not None}
    told |= {"further": json.loads(sample["further"])} if sample["further"] else {}
    facts = {"width_px": sample["width_px"], "height_px": sample["height_px"], "source": sample["name"], **told}
    offset = _add_file(tar, f"{key}.{sample['extension']}", image)
    _add_file(tar, f"{key}.txt", sample["caption"].encode())
    _add_file(tar, f"{key}.json", json.dumps(facts, sort_keys=True, ensure_ascii=True).encode())
    return {
        "key": key,
        "offset": offset,
        "num_bytes": len(image),
        "aspect_ratio": plan.aspect_ratio,
        "split": plan.split,
        "sha256": hashlib.sha256(image).hexdigest(),
        "original_sha256": sample["content"].hex(),
        "pixels_sha256": sample["pixels"].hex(),
        "source": sample["name"],
        **({"further": sample["further"]} if sample["further"] else {}),
        **{
            name: sample[name]
            for name in (
                "width_px",
                "height_px",
                "extension",
                "caption",
                "caption_long",
                "caption_short",
                "phash",
                "url",
            )
        },
    }


def _from_origin(origin: Origin) -> bytes:
    """Return the picture as an earlier version stored it."""
    data = storage.read_bytes(origin.shard, start=origin.offset, length=origin.num_bytes)
    if hashlib.sha256(data).hexdigest() != origin.sha256:
        raise ManifestError(
            f"{origin.shard}: the picture at offset {origin.offset} is not the one that the parent's manifest names; "
            "verify the parent"
        )
    return data


def _from_source(sample: dict[str, Any], record: Record | None, max_pixels: int) -> bytes:
    """Read the picture again and encode it as the first pass decided."""
    if record is None or record.row != sample["row"]:
        raise SourceError(f"{sample['name']}: is gone since it was measured; start again when the source is at rest")
    try:
        data = fetch(record)
        if hashlib.sha256(data).digest() != sample["content"]:
            raise SourceError(
                f"{record.name}: changed since it was measured; start again when the source is at rest, without the "
                "folder of facts"
            )
        return data if sample["keep_bytes"] else decode(data, max_pixels).encode()
    except UnreadableError as error:
        raise SourceError(f"{record.name}: could be read at first, then no longer: {error.detail}") from error


def _add_file(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append one file and return the offset of its first byte in the tar."""
    info = tarfile.TarInfo(name)  # time of change 0, owner 0, mode 644: nothing of this machine
    info.size = len(data)
    offset = tar.offset + _HEADER_BYTES
    tar.addfile(info, io.BytesIO(data))
    return offset


class _HashedFile:
    """Counts and hashes what is written through it."""

    def __init__(self, file: storage.Draft) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)
