"""Experiment trackers that are fed while a job runs, chosen by the environment.

``INFINITY_TRACKERS`` names them (``mlflow,tensorboard``), ``INFINITY_TRACKING`` the local folder they write into (by
default ``tracking``), and ``INFINITY_TRACKING_PROJECT`` the project (by default ``infinity``). A tracker that fails
stops no job: a warning says so, and ``infinity track`` sends the rest afterwards.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infinity.reporting.tracking.tracked import Sending
from infinity.reporting.tracking.trackers import check_tracker

logger = logging.getLogger(__name__)

PERIOD_S = 10.0
"""Time between two looks at a job's folder."""


@contextmanager
def tracked(job: str) -> Iterator[None]:
    """Send what a job writes to the chosen trackers, inside the block every ten seconds, and at its end.

    Args:
        job: URI of the job's folder.

    Raises:
        ValueError: There is no tracker of a name, or its package is not installed; raised before the job starts.
    """
    names = [name.strip() for name in os.environ.get("INFINITY_TRACKERS", "").split(",") if name.strip()]
    for name in names:
        check_tracker(name, "INFINITY_TRACKERS")
    folder = Path(os.environ.get("INFINITY_TRACKING") or "tracking").absolute()
    project = os.environ.get("INFINITY_TRACKING_PROJECT") or "infinity"
    end = threading.Event()
    threads = [
        threading.Thread(target=_follow, args=(Sending(job, name, folder=folder, project=project), end), daemon=True)
        for name in dict.fromkeys(names)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def _follow(sending: Sending, end: threading.Event) -> None:
    """Send until the job has ended; all calls of one tracker come from one thread, as some packages need."""
    try:
        try:
            while not end.wait(PERIOD_S):
                sending.update()
            sending.update()
        finally:
            sending.close()
    except Exception as error:  # packages of others raise anything, and no training may end because of them
        logger.warning(
            "%s gets nothing more of %s (%s: %s); `infinity track %s --to %s` sends the rest",
            sending.tracker, sending.job, type(error).__name__, error, sending.job, sending.tracker,
        )  # fmt: skip
