"""Memory and seconds of a purge: ``python -m benchmarks.loading.purging --rows 100000 1000000``.

Writes a version with that many rows, its facts, and its next version; then purges one address. Pictures and thumbnails
are not there: a purge reads neither. Prints a line of JSON for each number of rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.measuring.timing import apart
from infinity.data.curation import facts as facts_files
from infinity.data.curation.facts import FACTS
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ManifestHead
from infinity.data.dataset.manifest_parts import ROWS_PER_PART
from infinity.data.dataset.manifest_rows import SCHEMA, with_further
from infinity.data.memory import status_bytes
from infinity.jobs.dataset.purge import purge

ROWS_PER_SLICE = 1024


def url_of(row: int) -> str:
    """Return the address of a row."""
    return f"https://host{row % 1000}.example/pictures/{row:010d}.jpg"


def rows_of(first: int, end: int) -> pa.Table:
    """Return rows of a manifest; what each is follows from its number."""
    numbers = range(first, end)
    sums = [hashlib.sha256(b"%d" % row).hexdigest() for row in numbers]
    columns = {
        "key": [each[:32] for each in sums],
        "shard": ["shards/x.tar"] * len(sums),
        "caption": [f"a picture of thing number {row}" for row in numbers],
        "split": ["train"] * len(sums),
        "url": list(map(url_of, numbers)),
        "source": [f"{row:010d}.jpg" for row in numbers],
        "phash": [row * 0x9E3779B97F4A7C15 % 2**64 for row in numbers],
        **dict.fromkeys(("sha256", "original_sha256", "pixels_sha256"), sums),
    }
    plain = {"extension": ["jpg"] * len(sums), **{name: [64] * len(sums) for name in ("width_px", "height_px")}}
    zeros = {name: [0] * len(sums) for name in ("offset", "num_bytes", "aspect_ratio")}
    filled = {**zeros, **plain, **columns}
    arrays = [pa.array(filled.get(each.name, [None] * len(sums)), each.type) for each in SCHEMA]
    return with_further(pa.Table.from_arrays(arrays, schema=SCHEMA))


def facts_of(rows: pa.Table, first: int) -> pa.Table:
    """Return the facts of rows of a manifest, without thumbnails."""
    sums = pa.array([bytes.fromhex(each) for each in rows["pixels_sha256"].to_pylist()], pa.binary(32))
    known = {"row": pa.array(range(first, first + rows.num_rows)), "name": rows["source"], "content": sums}
    known |= {"pixels": sums, "phash": rows["phash"], "url": rows["url"], "caption": rows["caption"]}
    columns = [known.get(each.name, pa.nulls(rows.num_rows, each.type)) for each in FACTS]
    return pa.table(columns, names=FACTS.names).cast(FACTS)


def prepare(root: Path, rows: int) -> None:
    """Write a version, its facts, and the version that comes after it."""
    folder = root / "facts" / "0123456789abcdef"
    folder.mkdir(parents=True)

    def pieces(number: int, with_facts: bool) -> Iterator[pa.Table]:
        for first in range(0, number, ROWS_PER_SLICE):
            table = rows_of(first, min(number, first + ROWS_PER_SLICE))
            if with_facts:
                (folder / f"{first:012d}.parquet").write_bytes(facts_files.to_bytes(facts_of(table, first)))
            yield table

    head = ManifestHead(counts={}, unreadable={}, shards=(), spec={}, root="..")
    old = Manifest.write(f"{root}/dataset-old/manifest.parquet", head, pieces(rows, True), False, ROWS_PER_PART)
    child = head.replace(parent=old.digest, counts={"read": 1})
    Manifest.write(f"{root}/dataset-new/manifest.parquet", child, pieces(1, False), False, ROWS_PER_PART)


def purge_one(root: Path, row: int) -> dict[str, object]:
    """Purge one address, and return what it took."""
    child = Manifest.load(f"{root}/dataset-new/manifest.parquet")
    before = status_bytes("VmHWM") >> 20
    started = time.monotonic()
    deleted = purge(child, TakedownList(urls=(url_of(row),))).deleted
    return {
        "seconds": round(time.monotonic() - started, 1),
        "deleted": {kind: number for kind, number in deleted.items() if number},
        "mib_before": before,
        "mib_peak": status_bytes("VmHWM") >> 20,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Parse the command line and purge at each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    args = parser.parse_args()
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), rows)
            print(json.dumps({"rows": rows, **apart(purge_one, Path(folder), rows // 2)}), flush=True)


if __name__ == "__main__":
    main()
