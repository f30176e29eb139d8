"""Run a stage as a Ray job: start it, or attach to the one that runs, tell its progress, and return its report."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from infinity import storage
from infinity.jobs.progress import Progress, ProgressSink
from infinity.jobs.signals import asked_by_signal
from infinity.jobs.spec import JobReport, JobSpec, is_done, load_report
from infinity.jobs.submission.client import JobClient, JobState, SubmissionError
from infinity.jobs.submission.files import MAY_PASS, NOT_SEEN, JobFiles, submission_id
from infinity.jobs.watching import SILENT_S, ClusterLostError

R = TypeVar("R", bound=JobReport)

POLL_S = 1.0
"""Seconds between two looks at the job."""
SIGN_S = 4.0
"""Seconds between two signs of life for the job; it stops itself when nobody gives one (`entry.UNWATCHED_S`)."""
STOP_S = 45
"""Seconds that a job gets to store its state before the cluster kills it."""
PATIENCE_S = 25.0
"""Seconds that a cancelled process waits for the end of its job: Prefect kills it after 30."""
PASSED_ON = (
    "INFINITY_LEASE_SILENCE_S", "INFINITY_JOB_UNWATCHED_S", "INFINITY_KERNELS", "INFINITY_LOG_FORMAT",
    "INFINITY_TRACKERS", "INFINITY_TRACKING_PROJECT", "INFINITY_ATTENTION",
)  # fmt: skip
"""Settings of this process that the job gets; places and secrets are those of the cluster."""


class StoppedError(SubmissionError):
    """The process that waited for the job, or the job on its cluster, was asked to end."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """The process that waits for a job.

    Attributes:
        run: Name of the run that it works for; the same after a restart.
        stops: Whether a cancel of this run ends a job that the given run has submitted, or only the waiting.
        told: Callback for sentences to people: whether the job was started or found, and where its page is.
    """

    run: str
    stops: Callable[[str], bool] = lambda submitter: False
    told: Callable[[str], None] = lambda sentence: None


def run_as_job(spec: JobSpec, report_type: type[R], *, address: str, progress: ProgressSink, watcher: Watcher) -> R:
    """Return the report of a stage that runs as a Ray job; one that runs already is attached to.

    Args:
        spec: Spec of the stage; its folder must be visible from the cluster.
        address: Address of the cluster's dashboard.
        watcher: The process that waits.

    Raises:
        ClusterLostError: The cluster does not answer any more; the job may go on, and is found again.
        NoClusterError: No cluster answers at the address.
        PermissionError: The cluster asks for a token.
        StoppedError: This process was asked to end.
        SubmissionError: The job failed.
    """
    spec = spec.replace(output=storage.absolute(spec.output))
    if is_done(spec):
        return load_report(spec, report_type)
    client, files = JobClient(address), JobFiles.of(spec)
    with asked_by_signal(signal.SIGTERM) as asked, signing(files, watcher.run):
        while True:
            submitted = _begin(client, files, spec, watcher)
            state = _wait(client, files, submission_id(spec), progress, watcher, submitted, asked)
            files.withdraw(state.mark)
            if is_done(spec) or asked.is_set() or (by := _stopped_by(files, state, watcher)) is None:
                break
            watcher.told(f"the run {by}, which had started it, was stopped; starting it again")
    if not is_done(spec):
        said = f"asked to end; the Ray job {submission_id(spec)} has ended"
        raise StoppedError(said) if asked.is_set() else _failure(client, files, spec, state)
    progress(Progress(1.0, "done"))
    return load_report(spec, report_type)


def _stopped_by(files: JobFiles, state: JobState, watcher: Watcher) -> str | None:
    """Return the run with whose end a job was stopped, so that who waits goes on; None for any other end of the job.

    It may be the waiting run itself, where that was suspended and is resumed while its job still stores its step.
    """
    if state.status != "STOPPED":
        return None
    by = state.metadata.get("run", "")
    return files.stopped_by(state.mark) or (by if by != watcher.run and watcher.stops(by) else None)


def _begin(client: JobClient, files: JobFiles, spec: JobSpec, watcher: Watcher) -> JobState:
    """Start the job unless it runs; return its state."""
    job, mark = submission_id(spec), secrets.token_hex(8)
    while True:
        state = client.state(job)
        if state is not None and not state.is_over:
            by = state.metadata.get("run", "")
            how = "started by this run" if by == watcher.run else f"which run {by} has started"
            watcher.told(f"attached to the Ray job {job}, {how}: {client.page(job)}")
            return state
        if state is not None:
            client.forget(job)
        files.watch(watcher.run, time.time_ns())
        files.submit(spec, mark)
        command = f"python -m infinity.jobs.submission.entry {shlex.quote(files.submission(mark))} {mark}"
        metadata = {
            "run": watcher.run,
            "folder": storage.absolute(spec.folder),
            "mark": mark,
            "host": socket.gethostname(),
        }
        if client.submit(job, command, variables=_variables(), metadata=metadata, num_cpus=0):
            watcher.told(f"started the Ray job {job}: {client.page(job)}")
            return JobState("PENDING", "", None, metadata)
        files.withdraw(mark)  # another process was first


def _variables() -> dict[str, str]:
    given = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
    return {**given, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "RAY_USAGE_STATS_ENABLED": "0"}


def _wait(
    client: JobClient,
    files: JobFiles,
    job: str,
    progress: ProgressSink,
    watcher: Watcher,
    submitted: JobState,
    asked: threading.Event,
) -> JobState:
    """Tell the job's progress until it is over, and return its last state.

    Raises:
        ClusterLostError: The cluster does not answer, or does not know the job any more.
        StoppedError: This process was asked to end.
    """
    heard_at, teller = time.monotonic(), _ProgressTeller(files, submitted.mark, progress)
    while True:
        teller.take_turn()
        try:
            state, heard_at = client.state(job), time.monotonic()
        except ClusterLostError:
            if time.monotonic() - heard_at > SILENT_S:
                raise
        else:
            if state is None:
                raise ClusterLostError(f"the Ray cluster at {client.address} does not know the job {job} any more")
            if state.is_over:
                return state
            if state.mark != submitted.mark:  # it was over, and another run was first to start it again
                submitted, teller = state, _ProgressTeller(files, state.mark, progress)
        if asked.wait(POLL_S):
            _stop(client, files, job, watcher, submitted)


@contextmanager
def signing(files: JobFiles, run: str) -> Iterator[None]:
    """Give signs of life for a job inside the block, in a thread: whatever this process waits for, they are in time.

    Args:
        run: Name of the run that watches.
    """
    over = threading.Event()

    def sign() -> None:
        while not over.is_set():
            with suppress(storage.StorageError), storage.patient(0.0):
                files.watch(run, time.time_ns())
            over.wait(SIGN_S)

    thread = threading.Thread(target=sign, name="signs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=SIGN_S)  # a daemon: a store that hangs keeps nobody here


class _ProgressTeller:
    """Tells the callback the progress of the job; a store that is away is waited for by nobody.

    Args:
        mark: Mark of the submission whose progress is told.
    """

    def __init__(self, files: JobFiles, mark: str, progress: ProgressSink) -> None:
        self._files, self._mark, self._progress = files, mark, progress
        self._told, self._is_away = Progress(0.0, ""), False

    def take_turn(self) -> None:
        """Tell the progress if it is new."""
        try:
            with storage.patient(0.0):  # who waits here hears of no cancel
                now = self._files.progress(self._mark)
        except storage.StorageError as error:
            if not self._is_away:
                self._is_away = True
                self._progress(Progress(self._told.fraction, f"its progress cannot be seen now ({error})"))
            return
        if now is not None and (now != self._told or self._is_away):
            self._told = now
            self._progress(Progress(min(now.fraction, 0.999), now.message))
        self._is_away = False


def _stop(client: JobClient, files: JobFiles, job: str, watcher: Watcher, submitted: JobState) -> None:
    """End the job if it is this run's, and raise.

    Raises:
        StoppedError: Always.
    """
    submitter = submitted.metadata.get("run", "")
    if submitter != watcher.run and not watcher.stops(submitter):
        raise StoppedError(f"asked to end; the Ray job {job} goes on for run {submitter}, which has started it")
    until, is_asked = time.monotonic() + PATIENCE_S, False
    try:
        while time.monotonic() < until:
            state = client.state(job)
            if state is None or state.is_over or state.mark != submitted.mark:  # the last one is not ours to stop
                raise StoppedError(f"asked to end; the Ray job {job} has ended")
            if not is_asked:
                with suppress(storage.StorageError), storage.patient(0.0):
                    files.stop(submitted.mark, submitter)
                client.stop(job)
                is_asked = True
            time.sleep(0.5)
    except ClusterLostError as error:
        raise StoppedError(
            f"asked to end; {error}; if the Ray job {job} lives, it stores its state and ends within a minute, since "
            "nobody watches it"
        ) from error
    raise StoppedError(f"asked to end; the Ray job {job} stores its state and ends within {STOP_S} s")


def _failure(client: JobClient, files: JobFiles, spec: JobSpec, state: JobState) -> Exception:
    """Return the error of a job that is over and has no report."""
    job = submission_id(spec)
    if state.exit_code == NOT_SEEN:
        return SubmissionError(
            f"the Ray cluster at {client.address} does not see the folder {spec.folder} of {socket.gethostname()}: "
            "let INFINITY_RUNS be s3://… or a file system that both mount at the same path"
        )
    if state.status == "STOPPED":
        return StoppedError(f"the Ray job {job} was stopped on the cluster; see {client.page(job)}")
    with suppress(storage.StorageError):
        if (said := files.ended(state.mark)) is not None:
            return ClusterLostError(said[0]) if said[1] else SubmissionError(said[0])
    if state.exit_code in (1, MAY_PASS) and (errors := _ERROR.findall(state.message)):  # its folder is full, or away
        return (SubmissionError if state.exit_code == 1 else ClusterLostError)(errors[-1])
    last = (state.message.strip() or "no word of it is left").splitlines()[-1][:300]
    return ClusterLostError(f"the Ray job {job} died ({last}); see {client.page(job)}")


_ERROR = re.compile(r'^(?:\S+ |\{.*"message": ")error: (.+?)(?:", "\w+": ".*|"\})?$', re.MULTILINE)
"""Last words in the log of a job, as text or as a JSON line."""
