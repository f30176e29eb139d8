"""A store that cannot be reached for some minutes: a job waits for it, a question on a terminal does not."""

from __future__ import annotations

import functools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from infinity.storage.errors import StoreUnreachableError

P = ParamSpec("P")
R = TypeVar("R")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0

logger = logging.getLogger(__name__)


class _Patience:
    """Waiting time of this process; the same for all its threads, since any of them may read and write for the work."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stack: list[tuple[float, Callable[[str], None]]] = []

    @property
    def now(self) -> tuple[float, Callable[[str], None]]:
        return self.stack[-1] if self.stack else (0.0, logger.warning)


_patience = _Patience()


@contextmanager
def patient(seconds: float, note: Callable[[str], None] = logger.warning) -> Iterator[None]:
    """Inside the block every call of this process waits for a store that cannot be reached.

    Args:
        seconds: Longest wait of each call.
        note: Callback, called once per call that has to wait, and once when the store is back.
    """
    entry = (seconds, note)
    with _patience.lock:
        _patience.stack.append(entry)
    try:
        yield
    finally:
        with _patience.lock:
            _patience.stack.remove(entry)


def patience() -> float:
    """Return the longest wait of a call of this process, in seconds; 0 where nothing waits."""
    return _patience.now[0]


def stay_patient(seconds: float) -> None:
    """Let every call wait for a store until this process ends: for a worker that serves one job.

    Args:
        seconds: Longest wait of each call.
    """
    with _patience.lock:
        _patience.stack.insert(0, (seconds, logger.warning))


def patiently(call: Callable[P, R]) -> Callable[P, R]:
    """Make a function that may be called again wait for its store, as long as this process is `patient`."""

    @functools.wraps(call)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> R:
        since, pause_s, is_told = time.monotonic(), FIRST_PAUSE_S, False
        while True:
            try:
                result = call(*args, **kwargs)
            except StoreUnreachableError as error:
                seconds, note = _patience.now
                left_s = since + seconds - time.monotonic()
                if left_s <= 0.0:
                    if is_told:
                        raise StoreUnreachableError(
                            f"{error}; waited {time.monotonic() - since:.0f} s for it"
                        ) from error
                    raise
                if not is_told:
                    note(f"{error}; waiting for it for up to {seconds:.0f} s")
                    is_told = True
                # Jitter: many readers that lost the same store must not all come back at once.
                time.sleep(min(left_s, pause_s * random.uniform(0.5, 1.0)))
                pause_s = min(LONGEST_PAUSE_S, 2.0 * pause_s)
                continue
            if is_told:
                _patience.now[1](f"the store answers again after {time.monotonic() - since:.0f} s")
            return result

    return waiting
