"""Pass a stop request from the driver to the workers of a training, which store their state and stop."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from infinity.jobs.signals import asked_by_signal
from infinity.jobs.watching import actor_here, end_actor

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""Seconds between two queries of a worker."""


class _Bell:
    """Actor that holds the request to stop for good, or to stop until there are more workers."""

    def __init__(self) -> None:
        self._rung = self._paused = False

    def ring(self) -> None:
        self._rung = True

    def pause(self) -> None:
        self._paused = True

    def rung(self) -> bool:
        return self._rung or self._paused

    def was_pause(self) -> bool:
        paused, self._paused = self._paused, False
        return paused and not self._rung


class StopSign:
    """Stop flag that a worker checks at every step; the check is cheap and never waits."""

    def __init__(self, bell: Any) -> None:
        self._bell = bell
        self._asked: Any = None
        self._next_s = 0.0
        self._seen = self._warned = False

    def __call__(self) -> bool:
        """Return whether the driver asked to stop, with a delay of about half a second.

        Where Ray says that a machine of the training will be taken away, the workers pause by themselves.
        """
        import ray

        if not self._warned and is_to_be_taken_away():
            self._warned = True
            logger.warning("a machine of this training will be taken away: its workers store their state and move")
            self.pause()
        if not self._seen and self._asked is None and time.monotonic() >= self._next_s:
            self._asked = self._bell.rung.remote()
        if self._asked is not None:
            ready, _ = ray.wait([self._asked], timeout=0)
            if ready:
                self._seen, self._asked = ray.get(self._asked), None
                self._next_s = time.monotonic() + POLL_S
        return self._seen

    def pause(self) -> None:
        """Ask the workers to store their state and end, so that others can go on, more of them or elsewhere."""
        self._bell.pause.remote()

    def was_pause(self) -> bool:
        """Return whether the workers were asked for a pause alone, and let the next ones go on."""
        import ray

        return bool(ray.get(self._bell.was_pause.remote()))


def is_to_be_taken_away() -> bool:
    """Return whether this process is a worker of a training of which Ray knows that a machine will be taken away.

    `ray.train.get_preemption_info` says so too, but waits for all workers, which is too much for every step; the first
    worker's word is enough here, since all workers stop at the same step.
    """
    try:
        from ray.train.v2._internal.execution.context import get_train_context

        notice = get_train_context().preemption_context.preemption_info
    except (ImportError, AttributeError, RuntimeError):  # another Ray; no worker of a training
        return False
    return notice is not None


@contextmanager
def stopping_on_signal(lost: threading.Event) -> Iterator[StopSign]:
    """Make a SIGTERM or SIGINT to this process ask the workers to store their state and stop, inside the block.

    Schedulers that reclaim a machine send SIGTERM, and so do work pools that cancel a flow run; Ctrl-C is SIGINT. A
    second signal has its previous effect. Outside the main thread signals cannot be caught, and nothing changes.

    Args:
        lost: Set when another process owns the training; the workers are asked then, too, and find that they cannot
            store.
    """
    import ray

    bell = actor_here(_Bell)
    done = threading.Event()

    def pass_on(asked: threading.Event) -> None:
        while not asked.wait(POLL_S) and not lost.is_set():
            pass
        if not done.is_set():
            if asked.is_set():
                logger.warning("asked to end: the workers store their state; a second signal ends at once, without it")
            ray.get(bell.ring.remote())

    with asked_by_signal(signal.SIGTERM, signal.SIGINT) as asked:
        thread = threading.Thread(target=pass_on, args=(asked,), name="stop", daemon=True)
        thread.start()
        try:
            yield StopSign(bell)
        finally:
            done.set()
            asked.set()
            thread.join()
            end_actor(bell)


@contextmanager
def stopping_here(lost: threading.Event) -> Iterator[Callable[[], bool]]:
    """Do the same for a training in this process: inside the block the yielded function returns whether to stop.

    Args:
        lost: Set when another process owns the training.
    """
    with asked_by_signal(signal.SIGTERM, signal.SIGINT) as asked:
        yield lambda: asked.is_set() or lost.is_set()
