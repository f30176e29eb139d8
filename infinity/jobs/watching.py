"""A cluster that is gone is noticed within seconds, and said in one sentence.

Left alone, a driver waits for minutes on a raylet that died, and Ray ends the whole process a minute after it lost
its head. So a thread looks after the cluster and interrupts the main thread, which gets an error that a retry may cure.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

LOOK_S = 1.0
"""Seconds between two looks at the cluster."""

PROBE_S = 5.0
"""How long an address may take to answer."""

SILENT_S = 40.0
"""A head that answers nobody for so long is lost; Ray itself gives up, and ends the process, after 60 seconds."""


class NoClusterError(ConnectionError):
    """No cluster answers at an address."""


class ClusterLostError(ConnectionError):
    """The cluster broke off while it was in use."""


_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00" + _SETTINGS + b"\x00" * 5
"""How two that speak gRPC begin: both send a frame of settings at once."""

Look = Callable[[], str | None]
"""Why the cluster is lost, or None while it is not."""


@dataclass(slots=True)
class _Watch:
    """What is known of the cluster that this process is connected to."""

    look: Look
    reason: str | None = None


_watch: _Watch | None = None


def end_actor(actor: Any) -> None:
    """End an actor; of a cluster that is lost nothing is asked, since the answer would never come."""
    import ray

    if _watch is None or _watch.reason is None:
        ray.kill(actor)


def actor_here(kind: type[Any]) -> Any:
    """Start an actor that holds messages on the machine of this process, so that no other machine's end ends it.

    Args:
        kind: Class of the actor, which takes no arguments.
    """
    import ray
    from ray.util.client import ray as client
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A client of ray:// is on no machine of the cluster. Where it is not needed, soft lets the actor go elsewhere.
    soft = bool(client.is_connected())
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=soft)
    return ray.remote(kind).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


@contextmanager
def explained() -> Iterator[None]:
    """Make one sentence of whatever is raised in the block because the cluster is lost.

    Raises:
        ClusterLostError: The cluster is lost, or a part of it that the work needs.
    """
    from ray import exceptions

    own = (exceptions.RayTaskError, exceptions.TaskCancelledError, exceptions.GetTimeoutError)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _watch is not None and (reason := _watch.reason or _watch.look()) is not None:
            _watch.reason = reason
            raise ClusterLostError(reason) from error
        if isinstance(error, exceptions.RayError) and not isinstance(error, own):
            raise ClusterLostError(_sentence(error)) from error
        raise


def _sentence(error: Exception) -> str:
    """Return what went wrong in the cluster, without the logs that Ray hangs on."""
    text = str(error).strip() or type(error).__name__
    if (found := _MEMORY.search(text)) is not None:
        return (
            f"the memory of the machine {found[1]} ran out ({found[2]} of {found[3]} used), so Ray ended workers "
            "there; end other programs, or use fewer workers, smaller batches or another machine"
        )
    return f"a part of the Ray cluster died ({text.splitlines()[0][:300]})"


_MEMORY = re.compile(r"low on memory.*?IP: ([^,)]+).*?was (\S+) used / (\S+)", re.DOTALL)


@contextmanager
def watched(look: Look) -> Iterator[None]:
    """Inside the block the main thread is interrupted when the cluster is lost; `explained` says why.

    Only the main thread can be interrupted; a block of another thread is not watched.

    Args:
        look: Function that is asked every second, in a thread.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, watch = threading.Event(), _Watch(look)

    def keep_looking() -> None:
        while not over.wait(LOOK_S):
            if (reason := look()) is not None:
                watch.reason = watch.reason or reason
                os.kill(os.getpid(), signal.SIGUSR2)
                return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not over.is_set():
            over.set()
            raise KeyboardInterrupt  # the only exception of a signal that Ray's own waiting lets through

    _watch, previous = watch, signal.signal(signal.SIGUSR2, interrupt)
    thread = threading.Thread(target=keep_looking, name="cluster", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR2, previous)
        _watch = None


def own_processes() -> Look:
    """Return a look at the processes that Ray started for this process: without one of them nothing goes on."""
    from ray._private import worker

    node = worker._global_node

    def look() -> str | None:
        dead = sorted(kind for kind, _ in node.dead_processes() if kind in ("raylet", "gcs_server"))
        if not dead:
            return None
        return f"the local Ray broke off: its process {dead[0]} died, perhaps for want of memory"

    return look


def answering(address: str) -> Look:
    """Return a look whether the head at ``host:port`` can be reached; a short break of the network is tolerated."""
    heard_at = asked_at = time.monotonic()

    def look() -> str | None:
        nonlocal heard_at, asked_at
        if time.monotonic() - asked_at >= PROBE_S:
            asked_at = time.monotonic()
            if probe(address) is None:
                heard_at = time.monotonic()
        silent_s = time.monotonic() - heard_at
        return f"the Ray cluster at {address} has not answered for {silent_s:.0f} s" if silent_s > SILENT_S else None

    return look


def require_cluster(address: str) -> None:
    """Refuse an address where no cluster answers, before Ray waits for minutes.

    Raises:
        NoClusterError: Nobody listens at the address, or somebody who does not speak as a cluster does.
    """
    if (trouble := probe(address)) is not None:
        raise NoClusterError(
            f"no Ray cluster answers at {address} ({trouble}); start it, correct RAY_ADDRESS, or unset it to use a "
            "local Ray"
        )


def probe(address: str) -> str | None:
    """Return why no cluster answers at ``host:port`` or ``ray://host:port``, or None; other forms are left to Ray."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return None
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return None
            connection.sendall(_GREETING)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        return str(error)
    return None if answer[3:4] == _SETTINGS else "what answers there is not Ray"
