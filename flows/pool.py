"""Makes a work pool ready for the worker that serves it: its queues, and an end for runs that nobody does any more.

python -m flows.pool local             make the queues that are not there yet
python -m flows.pool local --reap      end also the runs whose process is gone; while no worker of the pool runs
"""

import argparse
import sys
from collections.abc import Sequence

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.operations.reaper import reap

QUEUES: dict[str, tuple[int, int | None]] = {"upkeep": (1, None), "machine": (2, 1), "evaluations": (3, 1)}
"""Queues of prefect.yaml by name: priority, where 1 is served first, and how many runs may be at work at once.

What keeps the others going comes first and takes seconds; then trainings, which people start; then evaluations, which
schedules and new models start, too. Whoever starts a run can name another queue for it.

The limit is one of the queue, not of a deployment: it counts runs by their state on the server. The limit of a
deployment is a lease that a run loses when the server is away for five minutes, and Prefect interrupts it then.
"""


def make_queues(pool: str) -> list[str]:
    """Make the queues that are missing and return their names; a limit that an operator has set stays."""
    made = []
    with get_client(sync_client=True) as client:
        for name, (priority, limit) in QUEUES.items():
            try:
                client.read_work_queue_by_name(name, work_pool_name=pool)
            except ObjectNotFound:
                client.create_work_queue(name, concurrency_limit=limit, priority=priority, work_pool_name=pool)
                made.append(name)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.pool", description=__doc__.partition("\n")[0])
    parser.add_argument("pool")
    parser.add_argument("--reap", action="store_true", help="end runs of the pool that no living process does")
    options = parser.parse_args(arguments)
    make_queues(options.pool)
    for said in reap(options.pool if options.reap else None):
        print(f"ended {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
