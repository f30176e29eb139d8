"""How far a job is: a fraction and a sentence, also from workers on other machines.

Importing this module does not import ray.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MAX_PENDING = 1000
"""Messages that wait to be collected; of more the oldest are forgotten, since only the newest tell where the job is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job is.

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
"""Who listens; called often and quick to return."""


def silent(progress: Progress) -> None:
    """The sink of a job that nobody watches."""


def section(sink: ProgressSink, start: float, end: float) -> ProgressSink:
    """A sink for a part of a job: its fractions 0 to 1 become ``start`` to ``end`` of the whole."""

    def narrowed(progress: Progress) -> None:
        sink(Progress(start + (end - start) * progress.fraction, progress.message))

    return narrowed


class RemoteSink:
    """A sink that may travel to workers; what they say waits in an actor until the driver collects it."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __call__(self, progress: Progress) -> None:
        """Send and do not wait."""
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

    The thread keeps the caller's context variables, so that a sink may use the Prefect run it was made in. An error of
    the sink ends the collecting and is raised at the end of the block. Messages still under way when the block ends are
    lost: what must be heard is said by the driver.

    Args:
        sink: Who listens.
        period_s: Seconds between two collections.
    """
    import ray

    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    done = threading.Event()
    failures: list[Exception] = []

    def collect() -> None:
        try:
            for progress in ray.get(mailbox.take.remote()):
                sink(progress)
        except Exception as error:
            failures.append(error)

    def pump() -> None:
        while not failures and not done.wait(period_s):
            collect()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(pump,), name="progress", daemon=True)
    thread.start()
    try:
        yield RemoteSink(mailbox)
    finally:
        done.set()
        thread.join()
        if not failures:
            collect()
        ray.kill(mailbox)
    if failures:
        raise failures[0]
