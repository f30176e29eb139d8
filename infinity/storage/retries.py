"""Reading from a store that may be slow or down: again after a pause, in the end an error that says what was tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from infinity import storage
from infinity.config import Config
from infinity.ranges import Count, NotNegative, Positive
from infinity.storage import FileMissingError, StorageError
from infinity.storage.backends import s3
from infinity.storage.jitter import jittered

T = TypeVar("T")


class UnreachableError(StorageError):
    """A store did not give a file, however often it was asked."""


class DamagedError(StorageError):
    """A store gave other bytes than the manifest names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience(Config):
    """Attempts, time-outs and pauses of a read.

    Attributes:
        attempts: Number of attempts per read.
        timeout_s: Longest time of one attempt, in seconds.
        pause_s: Longest pause after the first failure, in seconds; it doubles with every further one, up to
            ``timeout_s``. Readers that failed together do not come back together: each waits at least half of it.
    """

    attempts: Count = 5
    timeout_s: Positive = 60.0
    pause_s: NotNegative = 0.5

    def pause(self, failures: int) -> float:
        """Return the longest pause after a number of failures, in seconds."""
        return float(min(self.timeout_s, self.pause_s * 2 ** (failures - 1)))

    @property
    def total_s(self) -> float:
        """Longest time until a read has given its bytes or its error."""
        return self.attempts * self.timeout_s + sum(self.pause(n) for n in range(1, self.attempts))

    def read(self, uri: str, what: str, attempt: Callable[[], T]) -> T:
        """Return the value of ``attempt``, which reads something of ``uri``.

        Each attempt runs in a thread of its own, since nothing else can leave a call that does not come back. One that
        is given up goes on unheard, and does not keep the process alive.

        Args:
            what: Name of what is read, for the message.
            attempt: Function that reads; StorageErrors and time-outs are tried again, a missing file is not.

        Raises:
            UnreachableError: All attempts failed; the message names file and store and what each attempt met.
            FileMissingError: There is no such file.
        """
        started, failures = time.monotonic(), list[str]()
        while True:
            try:
                return within(self.timeout_s, attempt)
            except FileMissingError:
                raise
            except StorageError as error:
                failures.append(str(error))
                last = error
            if len(failures) == self.attempts:
                break
            time.sleep(jittered(self.pause(len(failures))))
        raise UnreachableError(
            f"{uri}: {what} could not be read from {store_of(uri)}: {len(failures)} attempts in "
            f"{time.monotonic() - started:.1f} s, the pauses between them doubling from {self.pause_s} s. "
            f"{'; '.join(_counted(failures))}. Look after the store and start again: a training goes on from its last "
            "stored state"
        ) from last


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the value or raise the error of a call that may take this many seconds.

    Raises:
        StorageError: The call took longer.
    """
    done: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            done.append(call())
        except BaseException as error:  # raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="attempt")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not done:
        raise StorageError(f"no answer within {seconds:g} s")
    return done[0]


def store_of(uri: str) -> str:
    """Return the store behind a URI, for people."""
    if storage.local_path(uri) is not None:
        return "a disk of this machine"
    return f"the bucket {s3.split(uri)[0]!r} at {s3.client().meta.endpoint_url}"


def _counted(failures: list[str]) -> list[str]:
    """Return the failures with equal ones in a row as one."""
    lines: list[tuple[int, int, str]] = []
    for number, text in enumerate(failures, start=1):
        if lines and lines[-1][2] == text:
            lines[-1] = (lines[-1][0], number, text)
        else:
            lines.append((number, number, text))
    return [f"attempt {a}: {text}" if a == b else f"attempts {a} to {b}: {text}" for a, b, text in lines]
