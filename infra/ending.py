"""End what workers have started so that nothing is lost: flows are asked to store what they have done."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.processes import Service
from infra.records import records

FLOW_PATIENCE_S = 60.0
"""A training stores its state before it ends."""


def end_flows(state: Path) -> None:
    """Ask the flows that workers of this state folder have started to store and end, as a cancel does."""
    left = [record for record in records(state) if record.is_of_a_worker]
    for sign, patience_s in ((signal.SIGTERM, FLOW_PATIENCE_S), (signal.SIGKILL, 5.0)):
        for record in left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(record.pid, sign)
        deadline = time.monotonic() + patience_s
        while (left := [record for record in left if record.is_alive]) and time.monotonic() < deadline:
            time.sleep(0.2)


@contextmanager
def halted(workers: Sequence[Service]) -> Iterator[None]:
    """Inside the block workers start nothing; after it they end.

    At its end a worker kills the flows that it has started, and until then it starts the next one that waits.
    """
    for worker in workers:
        os.killpg(worker.pid, signal.SIGSTOP)
    yield
    for worker in workers:
        os.killpg(worker.pid, signal.SIGTERM)
        os.killpg(worker.pid, signal.SIGCONT)
