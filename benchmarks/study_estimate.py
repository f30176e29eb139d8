"""Estimate studies in miniature, write the estimates down, run the studies, and compare.

``python -m benchmarks.study_estimate late_guidance search --work FOLDER`` runs in this process; the folder must be new.
"""

from __future__ import annotations

import argparse
import json
import time

from infinity import storage
from infinity.jobs.cluster.connection import in_process
from infinity.studies.cost import CostModel
from infinity.studies.pages import load_study
from infinity.studies.running import StudyRun, run_study
from infinity.studies.world import World


def compare(name: str, work: str) -> dict[str, float | str]:
    """Estimate a study and write the estimate, then run it; seconds by the clock, and of this process' processor."""
    run = StudyRun(study=load_study(name), world=World("mini", storage.join(work, name)), seeds=(0, 1, 2))
    model = CostModel()
    seconds = sum(cost.seconds for cost in model.costs(run.cells))
    assert model.pace is not None
    found: dict[str, float | str] = {"study": name, "pace": model.pace, "estimated_s": seconds}
    found["estimated_processor_s"] = seconds / model.pace
    storage.write_text(storage.join(work, f"{name}-before.json"), json.dumps(found, indent=2))
    clock, processor = time.monotonic(), time.process_time()
    found["verdict"] = run_study(run).verdict
    found |= {"took_s": time.monotonic() - clock, "took_processor_s": time.process_time() - processor}
    storage.write_text(storage.join(work, f"{name}-after.json"), json.dumps(found, indent=2))
    return found


def main() -> None:
    """Compare all named studies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--work", default="runs/study-estimate")
    options = parser.parse_args()
    with in_process():
        for name in options.names:
            found = compare(name, storage.absolute(options.work))
            clock, processor = (
                f"{found[f'estimated_{unit}']:.1f} of {found[f'took_{unit}']:.1f} "
                f"({found[f'estimated_{unit}'] / found[f'took_{unit}'] - 1:+.0%})"  # type: ignore[operator]
                for unit in ("s", "processor_s")
            )
            print(f"{name:16} pace {found['pace']:.1f}; seconds {clock}; processor seconds {processor}", flush=True)


if __name__ == "__main__":
    main()
