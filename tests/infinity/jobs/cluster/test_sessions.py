"""What Ray starts is in sessions of its own, and ends where the start fails."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys

import pytest

from infinity.jobs.cluster import sessions
from infinity.jobs.cluster.sessions import (
    AGENT_PORTS,
    QUIET_PORTS,
    apart,
    known_ports,
    own_handler,
    patient,
    quiet_ports,
)
from tests.fixtures.faults.killing import living
from tests.fixtures.limits import wait_until

pytestmark = pytest.mark.ray

WITH_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"


def children(number: int) -> list[int]:
    return [process.number for process in living() if process.parent == number]


def test_a_start_that_fails_leaves_no_process_behind() -> None:
    """Ray forgets a node that did not start within its 30 seconds, with all that runs of it."""
    from ray._private import services

    usual, started, grandchildren = services.ConsolePopen, list[subprocess.Popen[bytes]](), list[int]()

    def start() -> None:
        with apart():
            for code in ("input()", WITH_CHILD):
                started.append(services.ConsolePopen([sys.executable, "-c", code], stdin=subprocess.PIPE))
            grandchildren.extend(wait_until(lambda: children(started[1].pid), "the process of a process"))
            raise RuntimeError("timed out during startup")

    with pytest.raises(RuntimeError, match="timed out during startup"):
        start()
    assert [process.returncode for process in started] == [-9, -9]
    wait_until(lambda: not {process.number for process in living()} & set(grandchildren), "the end of the grandchild")
    assert services.ConsolePopen is usual


def test_a_start_that_succeeds_keeps_its_processes_in_sessions_of_their_own() -> None:
    from ray._private import services

    with apart():
        process = services.ConsolePopen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.poll() is None
    assert os.getsid(process.pid) == process.pid
    process.communicate(b"\n")


def test_a_node_that_starts_may_take_longer_than_the_patience_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    asked = list[str]()

    def get_node(_address: str, node: str) -> dict[str, str]:
        asked.append(node)
        if len(asked) < 4:
            raise RuntimeError("no node info")
        return {"node_id": node}

    monkeypatch.setattr(services, "get_node", get_node)
    with patient():
        assert services.get_node("address", "n1") == {"node_id": "n1"}
    assert services.get_node is get_node
    assert len(asked) == 4


def test_a_node_whose_process_is_dead_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    def get_node(_address: str, _node: str) -> None:
        raise RuntimeError("no node info")

    monkeypatch.setattr(services, "get_node", get_node)
    with pytest.raises(RuntimeError, match="no node info"), patient(lambda: False):
        services.get_node("address", "n1")


@pytest.mark.parametrize("given", [{}, {"metrics_export_port": None}, {"runtime_env_agent_port": 0}])
def test_a_node_is_told_a_port_of_its_own_for_each_agent(given: dict[str, int | None]) -> None:
    """A raylet that has to learn them from files ends after 30 seconds, whatever it was told of patience."""
    from ray._private import parameter

    usual = parameter.RayParams
    with known_ports():
        params = parameter.RayParams(**given)
    ports = [getattr(params, name) for name in AGENT_PORTS]
    assert len(set(ports)) == len(AGENT_PORTS)
    assert set(ports) <= set(QUIET_PORTS)
    assert parameter.RayParams is usual


def test_a_port_that_was_asked_for_stays() -> None:
    from ray._private import parameter

    with known_ports():
        assert parameter.RayParams(metrics_agent_port=31_999).metrics_agent_port == 31_999


@pytest.mark.parametrize(
    ("kind", "command", "told"),
    [
        ("raylet", ["raylet", "--dashboard_agent_command=python agent.py --listen-port=25186 --x=1"], ["25186"]),
        ("raylet", ["raylet", "--dashboard_agent_command=python agent.py --listen-port=0"], []),
        ("raylet", ["raylet"], []),
        ("gcs_server", ["gcs_server", "--listen-port=25186"], []),
    ],
)
def test_a_raylet_hears_the_port_that_ray_tells_to_its_agent_alone(
    monkeypatch: pytest.MonkeyPatch, kind: str, command: list[str], told: list[str]
) -> None:
    from ray._private import services

    started = list[list[str]]()
    monkeypatch.setattr(services, "start_ray_process", lambda command, kind, fate_share: started.append(command))
    with known_ports():
        services.start_ray_process(command, kind, fate_share=True)
    assert started == [[*command, *(f"--dashboard_agent_listen_port={port}" for port in told)]]


def test_ports_that_are_taken_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(sessions, "QUIET_PORTS", range(port, port + 1))
        assert quiet_ports(0) == []
        with pytest.raises(OSError, match=rf"expected 1 free ports .* {port} .* found 0; end other programs"):
            quiet_ports(1)


@pytest.mark.parametrize("has_own", [True, False])
def test_ray_takes_the_handler_of_sigterm_only_from_a_process_without_one(has_own: bool) -> None:
    from ray._private import utils

    before, rays = signal.getsignal(signal.SIGTERM), lambda *_: None
    try:
        own = signal.default_int_handler if has_own else signal.SIG_DFL
        signal.signal(signal.SIGTERM, own)
        with own_handler():
            utils.set_sigterm_handler(rays)
        assert signal.getsignal(signal.SIGTERM) is (own if has_own else rays)
        utils.set_sigterm_handler(rays)  # outside of the block Ray does as it likes
        assert signal.getsignal(signal.SIGTERM) is rays
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_ray_installs_below_python_does_not_stay() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), list[int]()
    try:
        signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
        with own_handler():
            ignore = ctypes.c_void_p(signal.SIG_IGN)
            ctypes.CDLL(None).signal(signal.SIGTERM, ignore)  # nothing that Python would know of
            os.kill(os.getpid(), signal.SIGTERM)
            assert not seen
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
