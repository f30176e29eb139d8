"""A local Ray in a session of its own: a signal to the group of the driver does not reach it.

A terminal, a worker pool that cancels a flow run and a service manager all signal the whole process group. If the
cluster died of that, no worker could store its state any more, and the driver would wait for a cluster that is gone.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

START_S = 180.0
"""Longest time in seconds that a node may take to tell the head of itself."""

AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
"""Parameters of a node that name the ports of its agents."""

QUIET_PORTS = range(20_000, 32_000)
"""Ports that systems give to nobody by themselves: Linux does so from 32768, others from 49152."""


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
        with patient(lambda: all(process.poll() is None for process in started)), known_ports():
            yield
    except BaseException:
        for process in started:
            _end(process, with_group=bool(own))
        raise
    finally:
        services.ConsolePopen = usual


@contextmanager
def own_handler() -> Iterator[None]:
    """Around the start of Ray: the handler of SIGTERM stays as it is, where this process has one of its own.

    Ray's handler ends the process. A flow could not tell then that it was cancelled, and would count as crashed. Below
    Python Ray installs another one, which prints a trace and aborts the process three seconds after the signal.
    """
    from ray._private import utils

    usual, own = utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    is_kept = callable(own) and threading.current_thread() is threading.main_thread()
    if is_kept:
        utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = usual
        if is_kept:
            signal.signal(signal.SIGTERM, own)  # again, over the one below Python


@contextmanager
def known_ports() -> Iterator[None]:
    """Inside the block a node that starts is told the ports of its agents.

    Without them the raylet waits for files in which its agents name their ports. It ends after 30 seconds without
    them, and agents are Python programs, which need longer on a busy machine. One of the ports Ray tells to the agent
    alone.
    """
    from ray._private import parameter, services

    usual, usual_start = parameter.RayParams, services.start_ray_process

    def with_ports(*arguments: Any, **options: Any) -> Any:
        left = [name for name in AGENT_PORTS if not options.get(name)]
        return usual(*arguments, **options | dict(zip(left, quiet_ports(len(left)), strict=True)))

    def start(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        told = _LISTENS.search(" ".join(command)) if kind == "raylet" else None
        more = [f"--dashboard_agent_listen_port={told[1]}"] if told else []
        return usual_start([*command, *more], kind, *arguments, **options)

    parameter.RayParams, services.start_ray_process = with_ports, start
    try:
        yield
    finally:
        parameter.RayParams, services.start_ray_process = usual, usual_start


_LISTENS = re.compile(r"--listen-port=([1-9]\d*)")
"""The port of an agent, in the command that its raylet starts it with."""


def quiet_ports(number: int) -> list[int]:
    """Return ports of loopback that are free, below those that the system gives to whoever asks for any."""
    found, candidates = list[int](), list(QUIET_PORTS)
    random.SystemRandom().shuffle(candidates)
    while len(found) < number and candidates:
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port := candidates.pop()))
            found.append(port)
    if len(found) == number:
        return found
    raise OSError(
        f"expected {number} free ports of 127.0.0.1 from {QUIET_PORTS.start} to {QUIET_PORTS.stop - 1}, found "
        f"{len(found)}; end other programs"
    )


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
