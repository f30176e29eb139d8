"""Seconds from a manifest of a million rows to the first batch after a late step.

``python -m benchmarks.loading.resume`` prints them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time

import numpy as np
import pyarrow as pa

from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ManifestHead, ShardInfo
from infinity.data.dataset.manifest_rows import SCHEMA
from infinity.data.loading.batches import BatchPlan

PER_SHARD = 500


def make_manifest(uri: str, number: int, per_shard: int = PER_SHARD) -> None:
    """Write rows as the data stage writes them, with checksums and names of their own; there are no shards."""
    random = np.random.default_rng(0)
    hexes = [random.bytes(32).hex() for _ in range(number)]
    shards = [f"shards/train-{row // per_shard:032x}.tar" for row in range(number)]
    columns = {
        "key": [text[:20] for text in hexes],
        "shard": shards,
        "offset": np.arange(number) % per_shard * 100_000,
        "num_bytes": np.full(number, 100_000),
        "width_px": np.full(number, 512),
        "height_px": np.full(number, 512),
        "aspect_ratio": np.sort(random.choice([0.5, 0.75, 1.0, 1.333, 2.0], number)),
        "caption": [f"a picture of {text[:8]} beside {text[8:16]} in the style of a photo" for text in hexes],
        "split": ["train"] * number,
        "sha256": hexes,
        "original_sha256": hexes,
        "pixels_sha256": hexes,
        "phash": random.integers(0, 2**63, number).astype(np.uint64),
        "url": [f"https://example.org/{text[:16]}.jpg" for text in hexes],
        "source": [f"images/{text[:16]}.jpg" for text in hexes],
    }
    table = pa.table({field.name: pa.array(columns.get(field.name, [None] * number), field.type) for field in SCHEMA})
    infos = tuple(
        ShardInfo(path=path, num_bytes=per_shard * 100_000, num_samples=per_shard, sha256="0" * 64)
        for path in dict.fromkeys(shards)
    )
    head = ManifestHead(counts={"read": number, "kept": number}, unreadable={}, shards=infos, spec={})
    Manifest(uri=uri, head=head, table=table).save()


def start(uri: str, step: int, batch: int) -> dict[str, tuple[float, float]]:
    """Read up to the bytes of a late step's pictures; return wall and processor seconds of each part."""
    seconds: dict[str, tuple[float, float]] = {}
    began = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal began
        now = time.perf_counter(), time.process_time()
        seconds[name] = now[0] - began[0], now[1] - began[1]
        began = now

    manifest = Manifest.load(uri)
    lap("load")
    plan = BatchPlan(manifest, "train", batch, 3)
    lap("plan")
    ids = plan.batch(step)
    lap("first batch")
    for row in ids.rows:
        manifest.place(row)
    for name in ("sha256", "source", "caption", "caption_long", "caption_short"):
        manifest.values(name, ids.rows)
    lap("places, checksums, captions")
    for later in range(1, 101):
        plan.batch(step + later)
    lap("later 100 batches")
    return seconds


def main() -> None:
    """Parse the command line, make the manifest, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--per-shard", type=int, default=PER_SHARD, help=f"pictures of a shard ({PER_SHARD})")
    parser.add_argument("--step", type=int, default=123_456_789)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="starts; the median and the slowest are told (5)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = f"{folder}/manifest.parquet"
        make_manifest(uri, args.rows, args.per_shard)
        starts = [start(uri, args.step, args.batch) for _ in range(args.repeats)]
        megabytes = round(os.path.getsize(uri) / 1e6)
    whole = [
        [sum(part[clock] for name, part in each.items() if "later" not in name) for each in starts] for clock in (0, 1)
    ]
    figures = {
        "manifest_mb": megabytes,
        "start_s": {"median": round(statistics.median(whole[0]), 3), "slowest": round(max(whole[0]), 3)},
        "start_cpu_s": {"median": round(statistics.median(whole[1]), 3), "slowest": round(max(whole[1]), 3)},
        "parts_s": {name: round(statistics.median(each[name][0] for each in starts), 4) for name in starts[0]},
        "load": os.getloadavg()[0],
    }
    print(json.dumps({**vars(args), **figures}))


if __name__ == "__main__":
    main()
