"""One process works on a job: it owns the job's folder by a lease, and a second one waits for it.

A second process of the same spec, on this machine or another, says who works, since when and at which step, waits, and
then reads the finished report. If the first one dies it takes over and goes on from what is stored: at once where it
can see that the process is gone, else after `SILENCE_S` without a sign of life (`infinity.storage.leases.lease`).
"""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from infinity import storage
from infinity.jobs.live_tracking import tracked
from infinity.jobs.progress import Progress, ProgressSink, unfailing
from infinity.jobs.removing import end_removal
from infinity.jobs.seconds import seconds_of
from infinity.jobs.spec import JobReport, JobSpec, is_done, load_report
from infinity.storage import LeaseLostError, StorageError
from infinity.storage.fences import fenced
from infinity.storage.leases.lease import Lease, LeaseFence, LeaseRecord, acquire

logger = logging.getLogger(__name__)

SILENCE_S = 60.0
"""How long an owner may be silent; ``INFINITY_LEASE_SILENCE_S`` sets another time for the jobs of a process."""

STORE_PATIENCE_S = 600.0
"""How long a job waits for a store that cannot be reached: servers restart, networks break off for some minutes."""

_TOLD_EVERY_S = 30.0

R = TypeVar("R", bound=JobReport)

_waits: contextvars.ContextVar[bool] = contextvars.ContextVar("waits", default=True)


@contextmanager
def without_waiting() -> Iterator[None]:
    """Inside the block a job whose folder has an owner ends with an error that says who it is."""
    token = _waits.set(False)
    try:
        yield
    finally:
        _waits.reset(token)


@dataclass(frozen=True, slots=True)
class Tenure:
    """The time in which this process owns a job's folder.

    Attributes:
        progress: The job's listener, which also tells those who wait.
        fence: Fence that the job's workers have to pass with every write into the folder.
        lost: Event that is set when another process has taken over, after this one was silent for too long.
    """

    progress: ProgressSink
    fence: LeaseFence
    lost: Event


def once(spec: JobSpec, report_type: type[R], work: Callable[[Tenure], R], progress: ProgressSink) -> R:
    """Return the report of a job that one process at a time works on, and that is not done twice.

    Args:
        work: Function that does the job and commits its report.

    Raises:
        LeaseHeldError: Another process works on the job, inside of ``without_waiting``.
        LeaseLostError: This process was silent for too long, and another one took over.
        Exception: Any error of ``work``.
    """
    if is_done(spec):
        return load_report(spec, report_type)
    listener = _Listener(progress)
    with storage.patient(STORE_PATIENCE_S, listener.note), owned(spec, listener) as tenure:
        return load_report(spec, report_type) if is_done(spec) else work(tenure)


@contextmanager
def owned(spec: JobSpec, progress: ProgressSink) -> Iterator[Tenure]:
    """Own the job's folder inside the block; every write of this process there is fenced.

    Raises:
        LeaseHeldError: Another process works on the job, inside of ``without_waiting``.
        LeaseLostError: Another process took over, whatever error the block met by it.
        StorageError: The lease cannot be read or written.
    """
    folder, progress = storage.absolute(spec.folder), unfailing(progress)
    lease = acquire(
        folder,
        silence_s=seconds_of("INFINITY_LEASE_SILENCE_S", SILENCE_S, 0.5),
        wait=_waits.get(),
        told=_Teller(folder, progress),
    )

    def told(now: Progress) -> None:
        lease.note(now.message)
        progress(now)

    try:
        with fenced(lease.fence):
            end_removal(folder)
            with tracked(folder):
                yield Tenure(told, lease.fence, lease.lost)
    except Exception as error:
        # A new owner deletes and replaces files; what this process then misses is not the cause that it should name.
        try:
            lease.fence.check()
        except LeaseLostError as lost:
            raise lost from error
        except StorageError:
            pass
        raise
    finally:
        _give_back(lease, spec, folder)


def _give_back(lease: Lease, spec: JobSpec, folder: str) -> None:
    """End a lease; what goes wrong with it is not worth the job's result, or hides the job's own error."""
    lease.stop()
    with suppress(StorageError):
        finished = is_done(spec)
        lease.release(finished=finished, empty=not finished and not storage.list_files(folder))


class _Listener:
    """A job's listener, who also hears that the job waits for a store."""

    def __init__(self, progress: ProgressSink) -> None:
        self._progress, self._share, self._thread = unfailing(progress), 0.0, threading.get_ident()

    def __call__(self, now: Progress) -> None:
        self._share = now.fraction
        self._progress(now)

    def note(self, text: str) -> None:
        """Log that a call waits, or waits no longer; tell it too where the job waits itself, not one of its threads."""
        logger.warning("%s", text)
        if threading.get_ident() == self._thread:
            self._progress(Progress(self._share, text))


class _Teller:
    """Tells who owns the folder: in the log once, to the callback again and again."""

    def __init__(self, folder: str, progress: ProgressSink) -> None:
        self._folder, self._progress, self._told_at = folder, progress, -math.inf

    def __call__(self, record: LeaseRecord) -> None:
        if time.monotonic() - self._told_at < _TOLD_EVERY_S:
            return
        text = (
            f"{self._folder} is being worked on by {record.sentence}; waiting for its end, and taking over if it dies "
            f"or gives no sign of life for {record.silence_s:g} s"
        )
        if self._told_at == -math.inf:
            logger.warning("%s", text)
        self._told_at = time.monotonic()
        self._progress(Progress(0.0, text))
