"""A connection to Ray starts and stops only what is its own, and lets nobody else in."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infinity.jobs.cluster import ray_token
from infinity.jobs.cluster.connection import MAX_FOLDER_LENGTH, connect, short_temporary_folder
from infinity.jobs.cluster.heap import HEAP
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.sockets import commands, listening_addresses, processes_with


@pytest.mark.ray
def test_a_connected_process_stays_connected_after_the_block(local_ray: None) -> None:
    import ray

    before = ray.get_runtime_context().get_node_id()
    with connect():
        assert ray.get_runtime_context().get_node_id() == before
    assert ray.is_initialized()


def test_the_folder_of_ray_is_short_even_where_temporary_folders_lie_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = short_temporary_folder()
    assert folder.is_dir()
    assert len(str(folder)) <= MAX_FOLDER_LENGTH
    folder.rmdir()


HOST = """
import json, os, stat, sys
from infinity.jobs.cluster.connection import connect

def find():
    from ray._private.services import canonicalize_bootstrap_address_or_die
    return canonicalize_bootstrap_address_or_die("auto")

with connect(num_cpus=1, dashboard=True):
    import ray
    path = os.environ["RAY_AUTH_TOKEN_PATH"]
    print(json.dumps({
        "address": ray.get_runtime_context().gcs_address,
        "page": "http://" + ray._private.worker.get_dashboard_url(),
        "path": path,
        "token": open(path).read(),
        "mode": oct(stat.S_IMODE(os.stat(path).st_mode)),
        "worker": ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()),
        "heap": ray.get(ray.remote(lambda: os.environ["GLIBC_TUNABLES"]).remote()),
        "found by a worker": ray.get(ray.remote(find).remote()),
    }), flush=True)
    sys.stdin.readline()
names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_TMPDIR")
print(json.dumps({name: os.environ.get(name) for name in names}))
"""

GUEST = """
import sys
from infinity.jobs.cluster.connection import connect
try:
    with connect(sys.argv[1]):
        import ray
        print("let in:", ray.get(ray.remote(lambda: 7).remote()))
except PermissionError as error:
    print("refused:", error)
"""


@dataclass(frozen=True, slots=True)
class Host:
    """The Ray of one stage, as a process of its own starts it; tests share it.

    Attributes:
        said: What the process says about its Ray.
        pids: Every process that knows of its token.
    """

    said: dict[str, Any]
    pids: list[int]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    # A user's own settings for another cluster do not open this one.
    environment = {**without_ray(), "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "of another cluster"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        yield Host(said, processes_with("RAY_AUTH_TOKEN_PATH", said["path"]))
        after, _ = process.communicate("end\n", timeout=AGES_S)
        assert json.loads(after) == {
            "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": None, "RAY_AUTH_TOKEN": "of another cluster",
            "RAY_TMPDIR": None
        }  # fmt: skip
        assert not Path(said["path"]).exists()
    finally:
        process.kill()
        process.wait()


def without_ray() -> dict[str, str]:
    """The environment without what the session's own Ray has put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def guests(address: str, *environments: dict[str, str]) -> list[str]:
    """What processes with these variables, and no others of Ray, come to at a cluster; all at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GUEST, address],
            env={**without_ray(), "RAY_USAGE_STATS_ENABLED": "0", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    answers = [process.communicate(timeout=AGES_S) for process in processes]
    return [said or trace for said, trace in answers]


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are read from /proc")
def test_every_process_of_a_local_ray_listens_on_loopback_alone(host: Host) -> None:
    listening = listening_addresses(host.pids)
    known = {int(host.said[name].rsplit(":", 1)[1]) for name in ("address", "page")}  # of the head and its dashboard
    assert known <= {port for _, port in listening}
    assert {address for address, _ in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.ray
def test_a_worker_that_looks_for_any_ray_finds_its_own(host: Host) -> None:
    assert host.said["found by a worker"] == host.said["address"]  # whatever else runs, or ran, on the machine


@pytest.mark.ray
def test_workers_have_the_heap_of_trainings(host: Host) -> None:
    assert host.said["heap"] == os.environ.get("GLIBC_TUNABLES", HEAP["GLIBC_TUNABLES"])  # a user's own setting stays


@pytest.mark.ray
def test_the_token_of_a_local_ray_is_its_owners_alone(host: Host) -> None:
    assert host.said["mode"] == "0o600"
    assert host.said["worker"] == "token"
    assert len(host.said["token"]) >= 32
    assert not [command for command in commands() if host.said["token"] in command]


@pytest.mark.ray
def test_a_local_ray_lets_in_who_has_its_token_and_refuses_everybody_else(host: Host, exhaustive: bool) -> None:
    address = host.said["address"]
    *refused, let_in = guests(
        address,
        {},
        *([{"RAY_AUTH_MODE": "disabled"}] if exhaustive else []),
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(host.said["path"])},
    )
    for said in refused:
        assert said.startswith(f"refused: the Ray cluster at {address} asks for a token"), said
        assert "RAY_AUTH_TOKEN_PATH" in said
    assert let_in == "let in: 7\n"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("GET", "/nodes?view=summary"), ("GET", "/logs")],
)
def test_the_job_server_of_a_local_ray_asks_for_the_token(host: Host, method: str, path: str) -> None:
    def status(**headers: str) -> int:
        body = {"entrypoint": "touch /tmp/never"} if method == "POST" else None
        url = f"{host.said['page']}{path}"
        return httpx.request(method, url, json=body, headers=headers, timeout=AGES_S, trust_env=False).status_code

    assert status() == 401
    assert status(authorization=f"Bearer {'0' * 64}") == 403
    if method == "GET":
        assert status(authorization=f"Bearer {host.said['token']}") not in (401, 403)


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("127.0.0.1:6379", True),
        ("localhost:6379", True),
        ("ray://127.0.0.1:10001", True),
        ("[::1]:6379", True),
        ("ray-head:6379", False),
        ("10.0.0.1:6379", False),
        ("127.0.0.1.example.com:6379", False),
        ("auto", False),
    ],
)
def test_loopback_is_told_from_other_addresses(address: str, is_here: bool) -> None:
    assert ray_token.is_loopback(address) == is_here


def test_a_token_file_that_is_there_already_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("of somebody else")
    with pytest.raises(FileExistsError), ray_token.required(path):
        pass
    assert path.read_text() == "of somebody else"
