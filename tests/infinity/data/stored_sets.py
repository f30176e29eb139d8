"""Small data sets as the data stage stores them: several ratios, several shards of each, checksums that are right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from infinity import storage
from infinity.data.manifest import SCHEMA, Manifest, ManifestHead, ShardInfo
from tests.infinity.data.builders import encoded, noise

SIZES = {0.5: (16, 32), 1.0: (24, 24), 1.5: (36, 24)}
"""Rows and columns of the pictures of a ratio."""


def make_set(folder: str, counts: dict[float, int], per_shard: int = 5, validation: int = 0) -> Manifest:
    """Write shards (the pictures' bytes one after the other) and the manifest; pictures are all different."""
    rows, infos, seed = [], [], 0
    for split, numbers in (("train", counts), ("validation", {1.0: validation})):
        for ratio, number in sorted(numbers.items()):
            for start in range(0, number, per_shard):
                files = []
                for _ in range(min(per_shard, number - start)):
                    files.append(encoded(noise(*SIZES[ratio], seed=seed)))
                    seed += 1
                info = _write(folder, files)
                rows += _rows(info, files, split, ratio, seed - len(files))
                infos.append(info)
    head = ManifestHead(
        counts={"read": len(rows), "kept": len(rows)}, unreadable={}, shards=tuple(infos), spec={"seed": 0}
    )
    manifest = Manifest(
        uri=storage.join(folder, "manifest.parquet"), head=head, table=pa.Table.from_pylist(rows, schema=SCHEMA)
    )
    manifest.save()
    return Manifest.load(manifest.uri)


def _write(folder: str, files: Sequence[bytes]) -> ShardInfo:
    data = b"".join(files)
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"shards/{sha256[:16]}.tar"
    storage.write_bytes(storage.join(folder, path), data)
    return ShardInfo(path=path, num_bytes=len(data), num_samples=len(files), sha256=sha256)


def _rows(info: ShardInfo, files: Sequence[bytes], split: str, ratio: float, first: int) -> list[dict[str, object]]:
    offset, rows = 0, []
    for number, data in enumerate(files, start=first):
        rows.append(
            {
                "key": f"{number:08d}",
                "shard": info.path,
                "offset": offset,
                "num_bytes": len(data),
                "width_px": SIZES[ratio][1],
                "height_px": SIZES[ratio][0],
                "aspect_ratio": ratio,
                "caption": f"picture {number}",
                "split": split,
                "sha256": hashlib.sha256(data).hexdigest(),
                "source": f"{number}.png",
            }
        )
        offset += len(data)
    return rows
