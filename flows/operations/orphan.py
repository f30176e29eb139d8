"""A flow whose worker has died stops itself when its run is cancelled: nobody else is left to stop its process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flows.operations.other_runs import is_cancelled

PERIOD_S = 10.0
"""Seconds between two looks at the run."""


@contextmanager
def stopped_when_cancelled(flow_run: str, *, period_s: float = PERIOD_S) -> Iterator[None]:
    """Send this process SIGTERM, as its worker would, once its run is cancelled and its worker is gone.

    Args:
        flow_run: Id of the run of this process.
        period_s: Seconds between two looks.
    """
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(period_s):
            if os.getppid() != parent and is_cancelled(flow_run):
                return os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=watch, daemon=True, name="orphan")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
