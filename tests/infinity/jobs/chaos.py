"""A training in a process of its own, which a test may kill: ``python -m tests.infinity.jobs.chaos <spec.json>``."""

from __future__ import annotations

import sys

from infinity.jobs.cluster import connect
from infinity.jobs.progress import Progress
from infinity.jobs.registry import load_spec, run_spec


def main() -> None:
    """Run the job of a spec file on a small cluster of this process alone."""
    with connect(num_cpus=2):
        run_spec(load_spec(sys.argv[1]), progress=_say)


def _say(progress: Progress) -> None:
    sys.stdout.write(f"{progress.fraction:.3f} {progress.message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
