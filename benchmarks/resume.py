"""Seconds from a manifest of a million rows to the first batch after a late step: ``python -m benchmarks.resume``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

import numpy as np
import pyarrow as pa

from infinity.data.batches import BatchPlan
from infinity.data.manifest import SCHEMA, Manifest, ManifestHead, ShardInfo

PER_SHARD = 500


def make_manifest(uri: str, number: int) -> None:
    """Rows as the data stage writes them, with checksums and names of their own; there are no shards."""
    random = np.random.default_rng(0)
    hexes = [random.bytes(32).hex() for _ in range(number)]
    shards = [f"shards/train-{row // PER_SHARD:032x}.tar" for row in range(number)]
    columns = {
        "key": [text[:20] for text in hexes],
        "shard": shards,
        "offset": np.arange(number) % PER_SHARD * 100_000,
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
        ShardInfo(path=path, num_bytes=PER_SHARD * 100_000, num_samples=PER_SHARD, sha256="0" * 64)
        for path in dict.fromkeys(shards)
    )
    head = ManifestHead(counts={"read": number, "kept": number}, unreadable={}, shards=infos, spec={})
    Manifest(uri=uri, head=head, table=table).save()


def main() -> None:
    """Parse the command line, make the manifest, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--step", type=int, default=123_456_789)
    parser.add_argument("--batch", type=int, default=256)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = f"{folder}/manifest.parquet"
        make_manifest(uri, args.rows)
        times = [time.perf_counter()]
        manifest = Manifest.load(uri)
        times.append(time.perf_counter())
        plan = BatchPlan(manifest, "train", args.batch, 3)
        times.append(time.perf_counter())
        plan.batch(args.step)
        times.append(time.perf_counter())
        for later in range(1, 101):
            plan.batch(args.step + later)
        times.append(time.perf_counter())
        load_s, plan_s, first_s, later_s = np.diff(times)
        figures = {
            "manifest_mb": round(os.path.getsize(uri) / 1e6),
            "load_s": round(load_s, 3),
            "plan_s": round(plan_s, 3),
            "first_batch_s": round(first_s, 4),
            "later_batch_ms": round(later_s * 10, 3),
            "load": os.getloadavg()[0],
        }
    print(json.dumps({**vars(args), **figures}))


if __name__ == "__main__":
    main()
