"""Decisions on synthetic facts in partitions: seconds, memory of the driver and of the workers, kills on the way.

``python -m benchmarks.loading.decisions --rows 100000 1000000`` writes facts of as many pictures (a tenth are exact
copies of others, a tenth near ones), decides on them with two Ray workers, and prints a line of JSON for each number.
``--kill 10`` then starts the same decision from nothing as often and kills all its processes with SIGKILL on the way,
later each time, until it runs to its end: ``same`` tells whether the fates are the same. ``--here`` runs the tasks in
one process, without Ray.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt64

from benchmarks.measuring.watching import call, watch
from infinity.data.curation import facts as facts_files
from infinity.data.curation.facts import FACTS
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.takedown import TakedownList
from infinity.data.dedup.config import NearDuplicates
from infinity.jobs.cluster.connection import connect, in_process
from infinity.jobs.dataset.large.partitioned import chunks_of, decide_partitioned
from infinity.jobs.progress import Progress

ROWS_PER_SLICE = 1024
_SIZES = ((1600, 1200), (1200, 1600), (1620, 1080), (1080, 1080), (1080, 1920), (1920, 1080), (800, 600), (640, 427))


def mixed(numbers: np.ndarray) -> UInt64[np.ndarray, " *n"]:
    """Return 64 bits for each number that look random (SplitMix64)."""
    with np.errstate(over="ignore"):
        state = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)))


def facts_of(rows: Int[np.ndarray, " n"]) -> pa.Table:
    """Return facts of pictures that were never drawn; what each row is follows from its number alone."""
    kind = rows % 10
    original = np.where(kind < 8, rows, mixed(rows).astype(np.int64) % np.maximum(rows // 10, 1) * 10)
    is_near = kind == 9
    words = mixed(original[:, None] * 64 + np.arange(1, 25))
    fields = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8, 8, 3).astype(np.float32)
    base = 60 + mixed(original * 64 + 30).astype(np.int64) % 136
    noise = np.ascontiguousarray(mixed(rows[:, None] * 64 + np.arange(31, 55))).view(np.uint8).reshape(-1, 8, 8, 3) % 5
    levels = base[:, None, None, None] + (fields - 128) * 0.5 + is_near[:, None, None, None] * (noise - 2.0)
    thumbnails = np.clip(levels, 0, 255).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    flips = np.uint64(1) << (mixed(rows * 64 + 60) % np.uint64(64))
    phash = mixed(original * 64 + 31) ^ np.where(is_near, flips, np.uint64(0))
    sizes = (
        np.array(_SIZES)[mixed(original * 64 + 32).astype(np.int64) % len(_SIZES)] // np.where(is_near, 2, 1)[:, None]
    )
    sums = [
        hashlib.sha256(b"%d %d" % (number, near)).digest()
        for number, near in zip(original, is_near * rows, strict=True)
    ]
    names = [f"{row:010d}.jpg" for row in rows.tolist()]
    columns = {
        "row": pa.array(rows),
        "name": pa.array(names),
        "caption": pa.array([f"a picture of thing number {number}" for number in original.tolist()]),
        "num_bytes": pa.array(sizes.prod(axis=1) // 8 + rows % 97),
        "width_px": pa.array(sizes[:, 0], pa.int32()),
        "height_px": pa.array(sizes[:, 1], pa.int32()),
        "extension": pa.array(["jpg"] * len(rows)),
        "keep_bytes": pa.array([True] * len(rows)),
        "content": pa.array(sums, pa.binary(32)),
        "pixels": pa.array(sums, pa.binary(32)),
        "phash": pa.array(phash),
        "thumbnail": pa.Array.from_buffers(pa.binary(3072), len(rows), [None, pa.py_buffer(thumbnails)]),
        "contrast": pa.array(thumbnails.std(axis=(1, 2)).max(axis=1), pa.float32()),
        "sharpness": pa.array(np.full(len(rows), 100.0), pa.float32()),
    }
    nothing = {name: pa.nulls(len(rows), FACTS.field(name).type) for name in FACTS.names if name not in columns}
    return pa.table({**columns, **nothing}).select(FACTS.names).cast(FACTS)


def prepare(folder: Path, rows: int) -> None:
    """Write the facts of all rows, as a source's slices are."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, rows, ROWS_PER_SLICE):
        path = folder / f"{start:012d}.parquet"
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(facts_files.to_bytes(facts_of(np.arange(start, min(rows, start + ROWS_PER_SLICE)))))
            part.rename(path)


def files_of(folder: Path, rows: int) -> list[tuple[str, int, int, int]]:
    """Return the slices that `prepare` wrote: file, source, first row, and number of rows."""
    starts = range(0, rows, ROWS_PER_SLICE)
    return [(str(folder / f"{at:012d}.parquet"), 0, at, min(rows, at + ROWS_PER_SLICE) - at) for at in starts]


def decide_all(folder: str, rows: int, partitions: int | None, root: str, here: bool) -> dict[str, object]:
    """Decide on all rows, and return the result for the process that watches this one."""
    stages: dict[str, float] = {}
    started = time.monotonic()

    def on_progress(progress: Progress) -> None:
        stages[progress.message.split(":")[0]] = round(time.monotonic() - started, 1)

    with in_process() if here else nullcontext(), connect(num_cpus=2):
        print("begin")
        started = time.monotonic()
        filters = FilterConfig(near_duplicates=NearDuplicates())
        chunks = chunks_of(files_of(Path(folder), rows))
        found = decide_partitioned(chunks, filters, TakedownList(), root, on_progress, partitions=partitions)
        print("end")
    digest = hashlib.sha256()
    for uri in (*found.kept, *found.dropped):
        for batch in read_bucket([uri]).to_batches():
            digest.update(pa.RecordBatch.serialize(batch))
    return {
        "kept": found.counts.kept,
        "dropped": found.counts.tally.dropped,
        "driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "fates": digest.hexdigest()[:16],
        "seconds_until": stages,
    }


def num_files(root: Path) -> int:
    """Return how many files the tasks have written."""
    return sum(1 for _ in root.rglob("*.parquet"))


def killed_on_the_way(command: list[str], root: Path, times: int, total: int) -> list[int]:
    """Start a command again and again, kill all its processes each time, and return how many files there were.

    Args:
        times: Number of kills, evenly over the decision.
        total: Number of files of the whole decision.
    """
    files = list[int]()
    for number in range(times):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and num_files(root) < (number + 1) * total // (times + 1):
            time.sleep(0.02)
        if process.poll() is not None:
            raise RuntimeError(f"kill {number + 1}: the decision had ended with {process.returncode} before")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        files.append(num_files(root))
        time.sleep(2.0)  # until what it left behind has ended
    return files


def compared(folder: Path, rows: int, temporary: Path, args: argparse.Namespace) -> dict[str, object]:
    """Decide once undisturbed, and once with kills on the way where they are asked for."""

    def command(root: Path) -> list[str]:
        root.mkdir()
        decide = "benchmarks.loading.decisions:decide_all"
        return call(decide, str(folder), rows, args.partitions, str(root), args.here)

    quiet = temporary / f"quiet-{rows}"
    found = {"rows": rows, **watch(command(quiet)).figures()}
    total = num_files(quiet)
    shutil.rmtree(quiet)
    if args.kill:
        root = temporary / f"killed-{rows}"
        child = command(root)
        kills = killed_on_the_way(child, root, args.kill, total)
        found |= {"files": total, "files_at_kills": kills, "same": watch(child).figures()["fates"] == found["fates"]}
        shutil.rmtree(root)
    return found


def main() -> None:
    """Parse the command line and decide on each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--partitions", type=int, help="parts that meeting rows are dealt to; else by their number")
    parser.add_argument("--kill", type=int, default=0, help="how often the decision is killed on the way")
    parser.add_argument("--here", action="store_true", help="in one process, without Ray")
    parser.add_argument("--folder", type=Path, help="where facts are written and stay; else they are not kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = args.folder or Path(temporary)
        for rows in args.rows:
            prepare(base / f"facts-{rows}", rows)
            print(json.dumps(compared(base / f"facts-{rows}", rows, Path(temporary), args)), flush=True)


if __name__ == "__main__":
    main()
