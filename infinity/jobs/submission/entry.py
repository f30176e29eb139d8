"""The process of a submitted job on the cluster.

python -m infinity.jobs.submission.entry <file of the submission> <mark>

It reads the spec, runs the stage on the cluster around it, tells its progress, and leaves its last words, all in files
(`infinity.jobs.submission.files`). When nobody gives a sign of life for a while, it stores its state and ends: a stage
whose run is gone does not keep machines.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from infinity import storage
from infinity.jobs.cluster.actors import WorkersError
from infinity.jobs.cluster.connection import connect
from infinity.jobs.progress import Progress
from infinity.jobs.registry import load_spec, run_spec
from infinity.jobs.seconds import seconds_of
from infinity.jobs.submission.files import MAY_PASS, NOT_SEEN, JobFiles
from infinity.logs import JsonLines, wants_json
from infinity.training.learner import TrainingError

logger = logging.getLogger(__name__)

UNWATCHED_S = 30.0
"""Seconds without a sign of life after which a job ends; ``INFINITY_JOB_UNWATCHED_S`` sets another time."""
LEFT_S = 12.0
"""The same after the last sign of a process that was found dead: time for another one to say that it watches, too."""
STORING_S = 45
"""Longest time in seconds in which a job that ends for want of a watcher stores its state."""
TELL_S = 2.0
"""Seconds between two reports of progress."""
LOOK_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the submitted stage; 0 when its report is written."""
    uri, mark = sys.argv[1:] if arguments is None else arguments
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if wants_json() else logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        spec = load_spec(uri)
    except storage.FileMissingError as error:
        logger.error("error: %s", error)
        return NOT_SEEN
    except (ValueError, OSError) as error:
        logger.error("error: %s", error)
        return 1
    files = JobFiles.of(spec)
    unwatched = threading.Event()
    try:
        with watched(files, _end_for_want_of_a_watcher(files, mark, unwatched)), connect(os.environ.get("RAY_ADDRESS")):
            run_spec(spec, progress=_ProgressWriter(files, mark))
    except (ValueError, OSError, TrainingError, WorkersError) as error:
        logger.debug("the stage failed", exc_info=True)
        logger.error("error: %s", error)
        may_retry = unwatched.is_set() or isinstance(error, (ConnectionError, TimeoutError))
        if not unwatched.is_set():
            _leave(files, mark, str(error), may_retry=may_retry)
        return MAY_PASS if may_retry else 1
    return 0


def _leave(files: JobFiles, mark: str, error: str, *, may_retry: bool) -> None:
    with suppress(storage.StorageError):
        files.end(mark, error, may_retry=may_retry)


def _end_for_want_of_a_watcher(files: JobFiles, mark: str, unwatched: threading.Event) -> Callable[[float], None]:
    def end(silent_s: float) -> None:
        unwatched.set()
        error = f"no process has watched this job for {silent_s:.0f} s, so it stored what it had and ended"
        logger.error("%s", error)
        _leave(files, mark, error, may_retry=True)
        signal.alarm(STORING_S)  # its default handler ends a process that hangs in whatever it does
        os.kill(os.getpid(), signal.SIGTERM)

    return end


@contextmanager
def watched(files: JobFiles, unwatched: Callable[[float], None]) -> Iterator[None]:
    """Inside the block a callback is called once when no sign of life has come for too long.

    Args:
        unwatched: Callback with the number of seconds of silence; called in a thread.

    Raises:
        ValueError: ``INFINITY_JOB_UNWATCHED_S`` is no number of seconds.
    """
    longest_s, over = seconds_of("INFINITY_JOB_UNWATCHED_S", UNWATCHED_S, 0.5), threading.Event()
    thread = threading.Thread(target=_look_after, args=(files, unwatched, over, longest_s), name="watched", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _look_after(files: JobFiles, unwatched: Callable[[float], None], over: threading.Event, longest_s: float) -> None:
    period_s = min(LOOK_S, longest_s / 4)
    sign, silent_s, looked_at = "", 0.0, time.monotonic()
    while not over.wait(period_s):
        try:
            now = files.watched()
        except storage.StorageError:  # nobody could give a sign there
            now = None
        # A look that took long waited for the store, or the machine slept: nobody could give a sign then, either.
        silent_s += min(time.monotonic() - looked_at, 2.0 * period_s)
        looked_at = time.monotonic()
        if now is None or now.text != sign:
            sign, silent_s = now.text if now else sign, 0.0
        elif silent_s > (min(longest_s, LEFT_S) if now.is_last else longest_s):
            unwatched(silent_s)
            return


class _ProgressWriter:
    """Writes progress for those who watch, now and then, and into the job's log."""

    def __init__(self, files: JobFiles, mark: str) -> None:
        self._files, self._mark, self._told_at = files, mark, float("-inf")

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.fraction >= 1.0 or now - self._told_at >= TELL_S:
            self._told_at = now
            logger.info("%3.0f %%  %s", 100.0 * progress.fraction, progress.message)
            self._files.tell(self._mark, progress)


if __name__ == "__main__":
    sys.exit(main())
