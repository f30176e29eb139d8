"""The second pass: webdataset shards, tar files whose bytes depend on their samples alone.

A sample is three files with one name: the picture, ``.txt`` with its caption, and ``.json`` with its size and origin.
The original bytes of a picture are kept wherever they show the right pixels to every reader; else a PNG takes their
place.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa

from infinity import storage
from infinity.config import ConfigError
from infinity.data.checking import fetch
from infinity.data.decoding import UnreadableError, decode
from infinity.data.layout import ShardPlan
from infinity.data.manifest import SCHEMA, ShardInfo
from infinity.data.samples import Record, SourceError
from infinity.data.sources import Slice

_HEADER_BYTES = tarfile.BLOCKSIZE  # of a member with a short name


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenShard:
    """A shard that lies in its place, and its rows of the manifest."""

    info: ShardInfo
    rows: pa.Table


def write_shard(plan: ShardPlan, slices: Sequence[Slice], folder: str, max_pixels: int) -> WrittenShard:
    """Write one shard and, after it, its index; a shard whose index is there already is not written again.

    Args:
        plan: What goes in.
        slices: The slices of the source in which the plan's rows lie, in order.
        folder: URI of the data set.
        max_pixels: As in the first pass.

    Raises:
        SourceError: A picture is not what it was in the first pass.
        StorageError: The source cannot be read or the shard not be written.
    """
    index = storage.join(folder, plan.path.removesuffix(".tar") + ".json")
    if storage.exists(index):
        return _from_json(json.loads(storage.read_text(index)), index)
    wanted = {sample["row"]: sample for sample in plan.samples.to_pylist()}
    rows: list[dict[str, Any]] = []
    with storage.create(storage.join(folder, plan.path)) as file:
        hashed = _HashedFile(file)
        with tarfile.open(fileobj=cast(BinaryIO, hashed), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            for piece in slices:
                for record in piece.read(frozenset(wanted)):
                    rows.append(_add_sample(tar, plan, wanted.pop(record.row), record, max_pixels))
        if wanted:
            raise SourceError(f"{len(wanted)} pictures are gone since they were checked, for example row {min(wanted)}")
    info = ShardInfo(
        path=plan.path, num_bytes=hashed.num_bytes, num_samples=len(rows), sha256=hashed.digest.hexdigest()
    )
    storage.write_text(index, json.dumps({"info": info.to_json(), "rows": rows}, ensure_ascii=True))
    return WrittenShard(info=info, rows=pa.Table.from_pylist(rows, schema=SCHEMA))


def _from_json(data: dict[str, Any], where: str) -> WrittenShard:
    try:
        return WrittenShard(
            info=ShardInfo.from_json(data["info"], where=where), rows=pa.Table.from_pylist(data["rows"], schema=SCHEMA)
        )
    except (KeyError, ConfigError, pa.ArrowException) as error:
        raise ConfigError(
            f"{where}: expected the index of a shard ({error}); delete the folder to build it again"
        ) from error


def _add_sample(
    tar: tarfile.TarFile, plan: ShardPlan, sample: dict[str, Any], record: Record, max_pixels: int
) -> dict[str, Any]:
    """Append the three files of one sample and return its row of the manifest."""
    image = _image_bytes(sample, record, max_pixels)
    key = f"{sample['row']:09d}"
    facts = {"width_px": sample["width_px"], "height_px": sample["height_px"], "source": sample["name"]}
    offset = _add_file(tar, f"{key}.{sample['extension']}", image)
    _add_file(tar, f"{key}.txt", sample["caption"].encode())
    _add_file(tar, f"{key}.json", json.dumps(facts, sort_keys=True, ensure_ascii=True).encode())
    return {
        "key": key,
        "shard": plan.path,
        "offset": offset,
        "num_bytes": len(image),
        "width_px": sample["width_px"],
        "height_px": sample["height_px"],
        "aspect_ratio": plan.aspect_ratio,
        "caption": sample["caption"],
        "split": plan.split,
        "sha256": hashlib.sha256(image).hexdigest(),
        "source": sample["name"],
    }


def _image_bytes(sample: dict[str, Any], record: Record, max_pixels: int) -> bytes:
    """Read the picture again and encode it as the first pass decided."""
    try:
        data = fetch(record)
        if hashlib.sha256(data).digest() != sample["content"]:
            raise SourceError(
                f"{record.name}: changed while the data set was built; start again when the source is at rest"
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

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)
