"""Pictures per second of the data stage and of img2dataset, alternating over the same pictures and the same work.

Both read pictures from this disk, reduce them until the shorter side has 512 pixels (smaller ones keep their size),
encode them as JPEG of quality 95, and write webdataset shards of 500 with captions and sizes. img2dataset takes
``file://`` addresses, the kindest way for it: no server competes for the cores. It has two processes and four
threads each; the stage has two Ray workers. Beyond this work the stage hashes every picture's pixels, measures it,
checks its header and makes shards whose bytes are the same each time; img2dataset hashes files and reads EXIF.

The reference needs an environment of its own, since its requirements conflict with ours::

    python3.11 -m venv /tmp/reference && /tmp/reference/bin/pip install img2dataset
    python -m benchmarks.loading.ingest --reference /tmp/reference/bin/python --pictures <folder> --pairs 5

Time runs from the call of the job to its end, imports before it excluded; the stage's local cluster is up before, as
img2dataset's interpreter is, but the workers' start counts for both. Where other programs use the machine, processor
time of all processes of a contender tells more than the clock; both are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring.watching import call, watch

SIDE_PX, QUALITY, PER_SHARD = 512, 95, 500

_REFERENCE = """
import csv, json, sys
from img2dataset import download
if __name__ == "__main__":
    source, output = sys.argv[1:3]
    rows = [json.loads(line) for line in open(source + "/metadata.jsonl")]
    with open(output + ".csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("url", "caption"))
        table.writerows(("file://" + source + "/" + row["file_name"], row["text"]) for row in rows)
    print("begin")
    download(url_list=output + ".csv", input_format="csv", url_col="url", caption_col="caption", output_folder=output,
        output_format="webdataset", image_size=int(sys.argv[3]), resize_mode="keep_ratio", resize_only_if_bigger=True,
        encode_quality=int(sys.argv[4]), processes_count=2, thread_count=4, number_sample_per_shard=int(sys.argv[5]))
    print("end")
"""


def make_pictures(source: Path, folder: Path, number: int) -> None:
    """Crops of photographs, resized to a shorter side of 384 to 1536 pixels, as JPEG of quality 75 to 95."""
    photographs = [Image.open(path).convert("RGB") for path in sorted(source.glob("*.jpg"))]
    if not photographs:
        raise SystemExit(f"{source}: expected photographs (*.jpg), found none")
    random, lines = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for index in range(number):
        image = photographs[index % len(photographs)]
        width, height = (int(side * random.uniform(0.55, 1)) for side in image.size)
        x, y = (int(random.integers(0, b - a + 1)) for a, b in zip((width, height), image.size, strict=True))
        scale = float(np.exp(random.uniform(np.log(384), np.log(1536)))) / min(width, height)
        size = (round(width * scale), round(height * scale))
        crop = image.resize(size, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))
        crop.save(folder / f"{index:06d}.jpg", quality=int(random.integers(75, 96)))
        lines.append(json.dumps({"file_name": f"{index:06d}.jpg", "text": f"a photograph, number {index}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_stage(source: str, output: str, filters: str) -> dict[str, int]:
    """Run the stage once, in a process of its own, and return its counts."""
    from infinity.data.curation.filters import CaptionFilters, FilterConfig
    from infinity.data.curation.storing import StoringConfig
    from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
    from infinity.jobs.cluster.connection import connect
    from infinity.jobs.dataset.build import BuildDatasetSpec, run

    none = FilterConfig(min_side_px=1, min_caption_chars=1, min_contrast=None, max_elongation=1e9, duplicates="keep")
    every = FilterConfig(
        min_pixels=1,
        min_sharpness=0.1,
        near_duplicates=NearDuplicates(),
        caption_duplicates=CaptionDuplicates(scope="anywhere", similarity=1.0),
        captions=CaptionFilters(
            max_chars=10_000,
            min_words=1,
            max_words=2_000,
            min_letters=0.1,
            max_char_run=50,
            max_word_repeats=1.0,
            min_script=0.1,
            min_english=0.0,
        ),
    )
    spec = BuildDatasetSpec(
        output=output,
        source=source,
        filters=every if filters == "all" else none,
        storing=StoringConfig(side_px=SIDE_PX, quality=QUALITY),
        samples_per_shard=PER_SHARD,
    )
    with connect(num_cpus=2):
        print("begin")
        report = run(spec)
        print("end")
    return dict(report.summary.counts)


def main() -> None:
    """Parse the command line, run the pairs, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="a Python with img2dataset; without it the stage runs alone")
    parser.add_argument(
        "--pictures", type=Path, default=Path("../shared/data/infinity_toy"), help="photographs (*.jpg)"
    )
    parser.add_argument("--number", type=int, default=1000, help="pictures made of them (1000)")
    parser.add_argument("--pairs", type=int, default=3, help="alternating runs of each (3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(args.pictures, folder / "pictures", args.number)
        source = str(folder / "pictures")
        (folder / "reference.py").write_text(_REFERENCE)
        stage = "benchmarks.loading.ingest:run_stage"
        ways: dict[str, Callable[[str], list[str]]] = {
            "stage": lambda out: call(stage, source, out, "none"),
            "stage, all filters": lambda out: call(stage, source, out, "all"),
        }
        if args.reference:
            reference, settings = (
                [args.reference, str(folder / "reference.py")],
                [str(SIDE_PX), str(QUALITY), str(PER_SHARD)],
            )
            ways["img2dataset"] = lambda out: [*reference, source, out, *settings]
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(args.pairs):
            for way, command in ways.items():
                output = str(folder / "output")
                watched = watch(command(output), {"NO_ALBUMENTATIONS_UPDATE": "1"})
                runs[way].append(
                    {
                        "per_s": args.number / watched.wall_s,
                        "per_cpu_s": args.number / watched.cpu_s,
                        "mib": watched.peak_bytes / 2**20,
                    }
                )
                print(json.dumps({way: runs[way][-1], "load": os.getloadavg()[0], "said": watched.lines[-1][:200]}))
                shutil.rmtree(output)
    print(json.dumps(_summary(runs, args.number)))


def _summary(runs: dict[str, list[dict[str, float]]], number: int) -> dict[str, object]:
    """Return medians, and medians of the ratios of neighbouring runs."""
    told: dict[str, object] = {"pictures": number, "pairs": len(runs["stage"])}
    for way, each in runs.items():
        told[way] = {
            name: round(statistics.median(run[name] for run in each), 1) for name in ("per_s", "per_cpu_s", "mib")
        }
        if way != "img2dataset" and "img2dataset" in runs:
            for name in ("per_s", "per_cpu_s"):
                ratios = [a[name] / b[name] for a, b in zip(each, runs["img2dataset"], strict=True)]
                three = (statistics.median(ratios), min(ratios), max(ratios))
                told[f"{way} / img2dataset, {name}"] = [round(value, 3) for value in three]
    return told


if __name__ == "__main__":
    main()
