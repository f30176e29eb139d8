"""Pictures per second of the reader and of plain webdataset iteration, alternating over the same shards.

``python -m benchmarks.loading.reader --pictures 4000 --side 512 --size 256 --repeats 7``. Both read the same tar files,
decode with Pillow and fit to the same square with the same function, in as many threads or, without ``--threads``, in
one. Plain iteration reads every shard from its first byte to its last, does not shuffle and checks nothing; the reader
gives shuffled batches and compares every picture with its checksum. ``cpu`` figures count seconds of the processor,
which other programs on the machine disturb less than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

os.environ["WDS_SECURE"] = "1"  # before its import: else members that are pickles are executed
import webdataset

from benchmarks.measuring.timing import alternately
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchPlan, picture
from infinity.data.loading.stored import ReadingConfig
from infinity.data.loading.stream import PixelLoader
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.dataset.build import run as build_dataset

BATCH = 32


def make_pictures(folder: Path, number: int, side_px: int) -> None:
    """Write JPEG pictures with structure at many sizes, as photos have, and a list of captions."""
    folder.mkdir(parents=True)
    lines = []
    for seed in range(number):
        random = np.random.default_rng(seed)
        pixels = np.zeros((side_px, side_px, 3), np.float32)
        for cells in (4, 16, 64, side_px // 2):
            noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            pixels += np.asarray(noise.resize((side_px, side_px), Image.Resampling.BICUBIC), np.float32) / cells**0.5
        pixels *= 255 / pixels.max()
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{seed:06d}.jpg", quality=90)
        lines.append(json.dumps({"file_name": f"{seed:06d}.jpg", "text": f"picture number {seed}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plain(manifest: Manifest, size_px: int) -> int:
    """Iterate with webdataset over all shards of the training split; the number of pictures."""
    shards = sorted({manifest.place(int(row))[0] for row in manifest.rows("train")})
    number = 0
    for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
        picture(sample["jpg"], (size_px, size_px))
        number += 1
    return number


def reader(manifest: Manifest, size_px: int, num_workers: int) -> int:
    """Read one epoch with our reader, without a cache, and return the number of pictures."""
    plan = BatchPlan(manifest, "train", BATCH)
    config = ReadingConfig(num_workers=num_workers, memory_bytes=0)
    steps, number = plan.first_step(1), 0
    with PixelLoader(
        manifest, lambda step: [plan.batch(step)], lambda _: (size_px, size_px), config, num_steps=steps
    ) as stream:
        for (batch,) in stream.from_step(0):
            number += len(batch.images)
    return number


def main() -> None:
    """Parse the command line, make the shards, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--side", type=int, default=512, help="pixels of the stored pictures' sides (512)")
    parser.add_argument("--size", type=int, default=256, help="pixels of the batches' sides (256)")
    parser.add_argument("--threads", type=int, default=1, help="of the reader (1, as plain iteration has)")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each (7)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder) / "pictures", args.pictures, args.side)
        with in_process():
            report = build_dataset(BuildDatasetSpec(output=folder, source=str(Path(folder) / "pictures")))
        manifest = Manifest.load(report.manifest)
        ways: dict[str, Callable[[], int]] = {
            "reader": lambda: reader(manifest, args.size, args.threads),
            "webdataset": lambda: plain(manifest, args.size),
        }
        numbers = {name: run() for name, run in ways.items()}  # warms up the disk cache
        found = alternately(ways, repeats=args.repeats)
    figures: dict[str, object] = {"load": os.getloadavg()[0]}
    for clock, median, ratio in (("wall", "median_s", "ratio"), ("cpu", "median_cpu_s", "ratio_cpu")):
        figures[clock] = {
            "pictures_per_s": {name: round(numbers[name] / found[name][median], 1) for name in ways},
            # An epoch of the reader leaves the last, incomplete batch out.
            "reader_to_webdataset": round(found["webdataset"][ratio] * numbers["reader"] / numbers["webdataset"], 3),
            "spread": round(found["webdataset"][f"{ratio}_spread"], 3),
        }
    print(json.dumps({**vars(args), **figures}))


if __name__ == "__main__":
    main()
