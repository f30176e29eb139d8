"""Drawn scenes through the flow of the data stage: time, pictures per second, memory, Prefect task runs.

``python -m benchmarks.loading.scale --pictures 1000 10000 100000`` runs the flow once for each number, in a process of
its own with a temporary Prefect server and two Ray workers, and prints a line of JSON for each: the whole stage from
the call of the flow to its end (Ray's start included), the largest resident memory of all processes together (server,
Ray and workers; shared pages once), and that of the largest process. ``--near-duplicates`` looks for them too.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks.measuring.watching import call, watch


def run_flow(folder: str, pictures: int, near_duplicates: bool) -> dict[str, object]:
    """Run the flow once, and return the result for the process that watches this one."""
    os.environ["INFINITY_RAY_NUM_CPUS"] = "2"
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    from flows.build_dataset import build_dataset
    from flows.forms.parameters import DatasetForm

    form = DatasetForm(num_scenes=pictures, near_duplicates=near_duplicates or None)
    with prefect_test_harness(server_startup_timeout=300):
        print("begin")
        report = build_dataset(run=folder, dataset=form)
        print("end")
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs()
    return {
        "task_runs": len(runs),
        "counts": report.summary.counts,
        "shards": report.summary.num_shards,
        "bytes": report.summary.num_bytes,
        "stage_s": round(report.seconds, 1),
    }


def main() -> None:
    """Parse the command line and run the flow for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--near-duplicates", action="store_true", help="look for near duplicates")
    parser.add_argument("--folder", type=Path, help="where the data sets go, in a folder each; else they are not kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for number in args.pictures:
            folder = (args.folder or Path(temporary)) / str(number)
            watched = watch(call("benchmarks.loading.scale:run_flow", str(folder), number, args.near_duplicates))
            figures = {
                "pictures": number,
                "near_duplicates": args.near_duplicates,
                "pictures_per_s": round(number / watched.wall_s, 1),
                "cpu_ms_per_picture": round(1000 * watched.cpu_s / number, 2),
                **watched.figures(),
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
