"""A flow stops itself where nobody else does: its worker has died and its run is cancelled, or its run is suspended.

Prefect lets a suspended flow go on until its next task, for days where a task is a training, while the page says
"Suspended" and another run gets its place.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext

from flows.operations.other_runs import is_cancelled

PERIOD_S = 10.0
"""Seconds between two looks at the run."""


@contextmanager
def stopped_when_unwanted(
    flow_run: str, *, is_suspended: Callable[[], bool] = lambda: False, period_s: float | None = None
) -> Iterator[None]:
    """Send this process SIGTERM once its run is suspended, or cancelled while its worker is gone.

    Args:
        flow_run: Id of the run of this process.
        is_suspended: Callback that is asked whether the run is suspended.
        period_s: Seconds between two looks; None: `PERIOD_S`.
    """
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(PERIOD_S if period_s is None else period_s):
            if is_suspended() or (os.getppid() != parent and is_cancelled(flow_run)):
                return os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=watch, daemon=True, name="orphan")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def suspension() -> Callable[[], bool]:
    """Return a function that tells whether the flow run of this context was suspended meanwhile.

    The engine of the flow hears of it, and ends with that state after the flow's body.
    """
    context = FlowRunContext.get()
    return (lambda: False) if context is None else context.flow_run_suspension_request.is_requested
