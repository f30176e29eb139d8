"""How far a job is: a fraction and a sentence, also from workers on other machines.

Importing this module does not import ray.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infinity.jobs.watching import actor_here, end_actor

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""How long a listener that failed is left alone: at first, and at most after it failed again and again."""

LAST_WORD_S = 10.0
"""How long the end of a block waits for a listener that does not return."""

MAX_PENDING = 1000
"""Messages that wait to be collected; of more the oldest are forgotten, since only the newest tell where the job is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a job.

    Attributes:
        fraction: Share of the work that is done, 0 to 1.
        message: One sentence for people, for example "step 120 of 400, loss 0.412".
    """

    fraction: float
    message: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"Progress.fraction: expected a share from 0 to 1, got {self.fraction}")


ProgressSink = Callable[[Progress], None]
"""Callback for progress; called often, and must return quickly."""


def silent(progress: Progress) -> None:
    """Ignore the progress of a job that nobody watches."""


def section(sink: ProgressSink, start: float, end: float) -> ProgressSink:
    """Return a sink for a part of a job: its fractions 0 to 1 become ``start`` to ``end`` of the whole."""

    def narrowed(progress: Progress) -> None:
        sink(Progress(start + (end - start) * progress.fraction, progress.message))

    return narrowed


class Unfailing:
    """A sink that never ends the work: while the listener fails, the newest report waits and is told later.

    Pauses double from ``FIRST_PAUSE_S`` to ``LONGEST_PAUSE_S``. The last report, with fraction 1, is tried at once.
    """

    def __init__(self, sink: ProgressSink) -> None:
        self._sink = sink
        self._untold: Progress | None = None
        self._pause_s, self._again_at = 0.0, float("-inf")
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        """Tell this report, or keep it while the listener is left alone."""
        with self._lock:
            self._untold = progress
            if progress.fraction >= 1.0 or time.monotonic() >= self._again_at:
                self._tell()

    def again(self, *, now: bool = False) -> None:
        """Tell what waits, if anything does and its pause is over.

        Args:
            now: Do not wait for the end of the pause.
        """
        with self._lock:
            if self._untold is not None and (now or time.monotonic() >= self._again_at):
                self._tell()

    def _tell(self) -> None:
        assert self._untold is not None
        try:
            self._sink(self._untold)
        except Exception as error:
            if self._pause_s == 0.0:
                logger.warning(
                    "progress cannot be shown for now (%s: %s); the work goes on", type(error).__name__, error
                )
            self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2.0 * self._pause_s))
            self._again_at = time.monotonic() + self._pause_s
            return
        if self._pause_s > 0.0:
            logger.info("progress is shown again")
        self._untold, self._pause_s, self._again_at = None, 0.0, float("-inf")


def unfailing(sink: ProgressSink) -> Unfailing:
    """Return the sink in a form whose errors end no job."""
    return sink if isinstance(sink, Unfailing) else Unfailing(sink)


class RemoteSink:
    """A sink that may travel to workers; what they say waits in an actor until the driver collects it."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __call__(self, progress: Progress) -> None:
        """Send a report to the actor and do not wait for an answer."""
        self._mailbox.put.remote(progress)


class _Mailbox:
    """The state of the actor: messages in order of arrival."""

    def __init__(self) -> None:
        self._pending: list[Progress] = []

    def put(self, progress: Progress) -> None:
        self._pending = [*self._pending[-MAX_PENDING:], progress]

    def take(self) -> list[Progress]:
        taken, self._pending = self._pending, []
        return taken


@contextmanager
def relayed(sink: ProgressSink, *, period_s: float = 1.0) -> Iterator[RemoteSink]:
    """Inside the block workers can report to ``sink``, which is called in this process by a thread of its own.

    The thread keeps the caller's context variables, so that a sink may use the Prefect run it was made in. Neither an
    error of the sink nor one that never returns ends the block: the newest report is told later. Messages still under
    way when the block ends are lost: what must be heard is said by the driver.

    Args:
        sink: Callback that is told.
        period_s: Seconds between two collections.
    """
    import ray

    mailbox = actor_here(_Mailbox)
    done, listener = threading.Event(), unfailing(sink)

    def collect() -> None:
        try:
            for progress in ray.get(mailbox.take.remote()):
                listener(progress)
        except ray.exceptions.RayError as error:  # the driver learns by its own calls whether the cluster is lost
            logger.debug("no progress from the workers: %s", error)
        listener.again(now=done.is_set())

    def pump() -> None:
        while not done.wait(period_s):
            collect()
        collect()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(pump,), name="progress", daemon=True)
    thread.start()
    try:
        yield RemoteSink(mailbox)
    finally:
        done.set()
        thread.join(LAST_WORD_S)
        end_actor(mailbox)
