"""A cluster that is gone, or never was, is said in one sentence within seconds."""

from __future__ import annotations

import http.server
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infinity.jobs import watching
from infinity.jobs.cluster.connection import connect
from infinity.jobs.watching import (
    ClusterLostError,
    NoClusterError,
    answering,
    explained,
    probe,
    require_cluster,
)
from tests.fixtures.faults.killing import Victim
from tests.fixtures.limits import AGES_S

logger = logging.getLogger(__name__)


@pytest.fixture
def silent_listener() -> Iterator[int]:
    """A port that takes up connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def web_server() -> Iterator[int]:
    """A port of a server that is no cluster."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("who", ["silent_listener", "web_server", "closed_port"])
def test_an_address_where_no_cluster_answers_is_refused_before_ray_waits_for_it(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, scheme: str, who: str
) -> None:
    monkeypatch.setattr(watching, "PROBE_S", 0.5)
    address = f"{scheme}127.0.0.1:{request.getfixturevalue(who)}"
    with pytest.raises(NoClusterError, match=f"no Ray cluster answers at {re.escape(address)} .*RAY_ADDRESS"):
        require_cluster(address)


def test_connect_says_so_too(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(NoClusterError), connect(f"127.0.0.1:{closed_port}"):
        pass


@pytest.mark.ray
def test_the_head_of_a_cluster_answers(local_ray: None) -> None:
    import ray

    require_cluster(ray.get_runtime_context().gcs_address)


def test_what_is_no_address_of_a_port_is_left_to_ray() -> None:
    assert probe("auto") is None


def test_a_head_that_is_silent_for_a_moment_is_not_lost_and_later_it_is(
    silent_listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PROBE_S", 0.01)
    look = answering(f"127.0.0.1:{silent_listener}")
    assert look() is None
    monkeypatch.setattr(watching, "SILENT_S", 0.0)
    time.sleep(0.02)
    assert "has not answered for" in str(look())


@pytest.mark.ray
def test_the_death_of_a_part_of_the_cluster_is_one_sentence(local_ray: None) -> None:
    import ray

    with pytest.raises(ClusterLostError, match=r"^a part of the Ray cluster died \(.*\)$"), explained():
        raise ray.exceptions.RaySystemError("the raylet died\n" + 150 * "a line of the log of its raylet\n")


OUT_OF_MEMORY = """10 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 10.213.80.10, ID: e1238a34) was 23.04GB used / 23.54GB limit (0.978943)
OOM kill reason: Memory usage 24018845696B exceeded threshold of 24012687360B (95.0% of 25276514304B limit)
Object store memory usage: [- objects spillable: 1
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "OutOfMemoryError",
            OUT_OF_MEMORY,
            r"the memory of the machine 10.213.80.10 ran out \(23.04GB of 23.54GB used\)",
        ),
        ("OutOfMemoryError", "said in another way\nand more", r"died \(said in another way\)"),
        ("WorkerCrashedError", "", "a part of the Ray cluster died"),
        ("ObjectStoreFullError", "the store is full\nlog", "the store is full"),
        ("OutOfDiskError", "no space left\nlog", "no space left|disk"),
        ("ActorUnschedulableError", "no node fits\nlog", "no node fits|unschedulable"),
    ],
)
def test_whatever_goes_wrong_in_the_cluster_is_one_line_that_a_retry_may_cure(name: str, text: str, words: str) -> None:
    from ray import exceptions

    kind = getattr(exceptions, name)
    error = kind(text) if name != "WorkerCrashedError" else kind()
    with pytest.raises(ClusterLostError, match=words) as caught, explained():
        raise error
    assert "\n" not in str(caught.value)


def test_what_a_worker_raises_by_itself_is_left_to_the_job() -> None:
    from ray.exceptions import RayTaskError, TaskCancelledError

    for error in (RayTaskError("work", "trace", ValueError("wrong")).as_instanceof_cause(), TaskCancelledError()):
        with pytest.raises(type(error)), explained():
            raise error


def test_other_errors_and_a_stop_from_the_keyboard_stay_what_they_are() -> None:
    for error in (ValueError("wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)), explained():
            raise error


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("process", ["raylet", "gcs_server"])
def test_a_driver_whose_local_ray_dies_learns_it_in_seconds_and_may_use_a_new_one(
    process: str, tmp_path: Path, exhaustive: bool
) -> None:
    if process != "raylet" and not exhaustive:
        pytest.skip("two clusters; --exhaustive loses the head too")
    job = Victim(["tests.fixtures.faults.lost_cluster", process], tmp_path / "job.log")
    try:
        assert job.process.wait(timeout=AGES_S) == 0, job.log.read_text()[-2000:]
    finally:
        job.end()
    said = job.log.read_text()
    logger.warning(said.splitlines()[-2:])
    assert f"the local Ray broke off: its process {process} died" in said
    assert "a new cluster adds: 2" in said
