"""Exact duplicates by the project's fan-out and by Ray Data, alternating: seconds, processor time, memory.

``python -m benchmarks.loading.ray_data --rows 100000 --rounds 3`` writes synthetic facts
(``benchmarks.loading.decisions``), and lets both ask the rules on single rows and then drop exact duplicates, with two
Ray workers. Both must keep the same rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.loading.decisions import files_of, prepare
from benchmarks.measuring.watching import call, watch
from infinity.data.curation.decisions import decide
from infinity.data.curation.facts import SMALL_FACTS
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.row_rules import PREFERENCE_COLUMNS
from infinity.data.curation.takedown import TakedownList
from infinity.data.dedup.duplicates import exact_duplicates
from infinity.jobs.cluster.connection import connect
from infinity.jobs.dataset.large.partitioned import chunks_of, decide_partitioned
from infinity.jobs.progress import silent

KINDS = ("fan_out", "ray_data")
FILTERS = FilterConfig()


def by_fan_out(folder: Path, rows: int, partitions: int, root: Path) -> np.ndarray:
    """Return the rows that stay, by the tasks of the data stage."""
    chunks = chunks_of(files_of(folder, rows))
    found = decide_partitioned(chunks, FILTERS, TakedownList(), str(root), silent, partitions=partitions)
    return np.concatenate([read_bucket([uri], columns=["row"])["row"].to_numpy() for uri in found.kept])


def by_ray_data(folder: Path, rows: int, partitions: int, root: Path) -> np.ndarray:
    """Return the rows that stay, by a pipeline of Ray Data: rules, a shuffle by checksum, duplicates in each block."""
    import ray.data

    def judged(table: pa.Table) -> pa.Table:
        return decide(table, FILTERS.replace(duplicates="keep")).kept.select(PREFERENCE_COLUMNS)

    def without_duplicates(table: pa.Table) -> pa.Table:
        gone = [match.index for match in exact_duplicates(table, FILTERS.duplicates)]
        return table.select(["row"]).filter(pa.array(~np.isin(np.arange(table.num_rows), gone)))

    every: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None}
    facts = ray.data.read_parquet(str(folder), columns=list(SMALL_FACTS)).map_batches(judged, **every)
    kept = facts.repartition(partitions, keys=["pixels"]).map_batches(without_duplicates, **every)
    kept.write_parquet(str(root))
    tables = [pq.read_table(path) for path in sorted(root.glob("*.parquet"))]
    return np.sort(pa.concat_tables(tables)["row"].to_numpy())


def decide_once(kind: str, folder: str, rows: int, partitions: int, root: str) -> dict[str, object]:
    """Decide once, and return how many rows stay and which, for the process that watches this one."""
    with connect(num_cpus=2):
        print("begin")
        found = {"fan_out": by_fan_out, "ray_data": by_ray_data}[kind](Path(folder), rows, partitions, Path(root))
        print("end")
    return {"kept": len(found), "digest": hashlib.sha256(found.tobytes()).hexdigest()[:16]}


def main() -> None:
    """Parse the command line, run both kinds in turn, and print a line of JSON for each run and one for the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        facts = Path(temporary, "facts")
        prepare(facts, args.rows)
        for number in range(args.rounds):
            for kind in KINDS if number % 2 == 0 else KINDS[::-1]:
                root = Path(temporary, f"{kind}-{number}")
                root.mkdir()
                given = (kind, str(facts), args.rows, args.partitions, str(root))
                runs.append({"kind": kind, **watch(call("benchmarks.loading.ray_data:decide_once", *given)).figures()})
                print(json.dumps(runs[-1]), flush=True)
    if len({(run["kept"], run["digest"]) for run in runs}) != 1:
        raise SystemExit("error: the two kept different rows")
    for kind in KINDS:
        own = [run for run in runs if run["kind"] == kind]
        medians = {
            name: round(statistics.median(run[name] for run in own), 1) for name in ("wall_s", "cpu_s", "peak_mib")
        }
        print(json.dumps({"kind": kind, **medians}))


if __name__ == "__main__":
    main()
