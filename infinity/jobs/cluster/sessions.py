"""A local Ray in a session of its own: a signal to the group of the driver does not reach it.

A terminal, a worker pool that cancels a flow run and a service manager all signal the whole process group. If the
cluster died of that, no worker could store its state any more, and the driver would wait for a cluster that is gone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

START_S = 180.0
"""Longest time in seconds that a node may take to tell the head of itself."""


@contextmanager
def apart() -> Iterator[None]:
    """Inside the block Ray starts its processes as leaders of sessions of their own; where it fails, they end.

    Where the kernel ends children with their parent (Linux), they still go when this process dies. Elsewhere Ray
    finds them by their process group, so nothing is changed there. A node that did not start in time is forgotten by
    Ray with all that runs of it, and would take the machine from the next attempt.
    """
    from ray._private import services, utils

    usual, started = services.ConsolePopen, list[Any]()
    own = {"start_new_session": True} if utils.detect_fate_sharing_support() else {}

    def start(*arguments: Any, **options: Any) -> Any:
        process = usual(*arguments, **{**options, **own})
        started.append(process)
        return process

    services.ConsolePopen = start
    try:
        with patient(lambda: all(process.poll() is None for process in started)):
            yield
    except BaseException:
        for process in started:
            _end(process, with_group=bool(own))
        raise
    finally:
        services.ConsolePopen = usual


@contextmanager
def patient(is_starting: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Inside the block a node that starts may take minutes; Ray gives it 30 seconds, too few on a busy machine.

    Args:
        is_starting: Whether there is hope that the node starts.
    """
    from ray._private import services

    usual = services.get_node

    def get_node(*arguments: Any, **options: Any) -> Any:
        until = time.monotonic() + START_S
        while True:
            try:
                return usual(*arguments, **options)
            except RuntimeError:
                if time.monotonic() > until or not is_starting():
                    raise
            time.sleep(0.2)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = usual


def _end(process: Any, *, with_group: bool) -> None:
    """Kill a process, with its group where it leads one, and wait until it is gone."""
    with suppress(ProcessLookupError):
        if with_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
