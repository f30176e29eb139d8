"""Every planted fault is found and named with what to do; a good set-up has none."""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from infinity.config import Config
from infinity.jobs.doctor import Finding, Setup, examine
from infinity.jobs.doctor.cluster import about_this_machine, compared
from infinity.jobs.doctor.machine import required, unmet
from infra.environment import free_port
from tests.fixtures.faults.killing import REPOSITORY
from tests.fixtures.limits import AGES_S


def setup(tmp_path: Path, environment: dict[str, str] | None = None, **fields: Any) -> Setup:
    """A good set-up with these faults."""
    usual = {"PATH": os.environ["PATH"], "WDS_SECURE": "1"}
    defaults: dict[str, Any] = {"runs": str(tmp_path / "runs"), "state": tmp_path / "state", "free_gigabytes": 0.001}
    return Setup(environment=usual | (environment or {}), **(defaults | fields))


def faults(given: Setup) -> dict[str, Finding]:
    return {found.check: found for found in examine(given) if found.verdict == "fault"}


def test_a_good_setup_has_no_fault(tmp_path: Path) -> None:
    findings = list(examine(setup(tmp_path)))
    assert [found for found in findings if found.verdict == "fault"] == []
    assert len({found.check for found in findings}) >= 15
    assert all(isinstance(found, Config) and (found.fix == "") == (found.verdict == "good") for found in findings)
    assert list((tmp_path / "runs").iterdir()) == []


def secret(tmp_path: Path, *, mode: int, text: str = "a:b", folder: int = 0o700) -> Path:
    path = tmp_path / "state" / "secrets" / "prefect-auth"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    path.parent.chmod(folder)
    return path


class Answering(BaseHTTPRequestHandler):
    """A server of another day, which lets nobody in and keeps no condition."""

    def answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.rfile.read(length)
        status = 401 if "/api/admin" in self.path else 200
        self.send_response_only(status)
        self.send_header("Date", formatdate(time.time() + 3600, usegmt=True))
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    started = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=started.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{started.server_address[1]}"
    started.shutdown()
    thread.join()
    started.server_close()


FAULTS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "ports": ({}, {"prefect_port": 99_999}, "port"),
    "database of another kind": ({}, {"database": "mysql://host/prefect"}, "database"),
    "database that is away": ({}, {"database": "postgresql+asyncpg://u:p@127.0.0.1:1/prefect"}, "database"),
    "SQLite for two workers": ({}, {"num_workers": 2}, "database"),
    "no such Prefect server": ({}, {"prefect_url": "http://127.0.0.1:1/api"}, "prefect"),
    "no such Ray": ({}, {"ray_address": "127.0.0.1:1"}, "ray"),
    "no such dashboard of Ray": ({}, {"ray_address": "http://127.0.0.1:1"}, "ray"),
    "login without a colon": ({"PREFECT_API_AUTH_STRING": "secret"}, {}, "login"),
    "two logins": ({"PREFECT_API_AUTH_STRING": "a:b", "PREFECT_SERVER_API_AUTH_STRING": "a:c"}, {}, "login"),
    "a proxy for this machine": ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, {}, "proxy"),
    "too many threads": ({"OMP_NUM_THREADS": "4096"}, {}, "threads"),
    "threads in words": ({"OMP_NUM_THREADS": "all"}, {}, "threads"),
    "jemalloc": ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, {}, "fork"),
    "no such token": ({"RAY_AUTH_TOKEN_PATH": "/nonexistent/token"}, {}, "secrets"),
    "a disk that is too small": ({}, {"free_gigabytes": 1e9}, "disk"),
    "outputs in a bucket nobody has": (
        {}, {"runs": "s3://UPPER_case_is_no_bucket/runs"}, "outputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_the_one_that_is_found(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str
) -> None:
    environment, fields, check = FAULTS[name]
    given = setup(tmp_path, environment, **fields)
    if name == "no such Ray" and ray.is_initialized():  # a process that is connected would ask its own cluster
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            found = fresh.submit(faults, given).result(AGES_S)
    else:
        found = faults(given)
    assert set(found) == {check}
    assert found[check].fix


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": 0o640}, "found mode 0640"),
        ({"mode": 0o600, "text": " \n"}, "is empty"),
        ({"mode": 0o600, "folder": 0o755}, "others can look into it"),
    ],
)
def test_a_secret_that_others_may_know_is_found(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    secret(tmp_path, **options)
    assert words in faults(setup(tmp_path))["secrets"].found


def test_outputs_below_a_file_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert set(faults(setup(tmp_path, runs=str(tmp_path / "file" / "runs")))) == {"outputs"}


def test_a_server_that_refuses_is_found_and_so_are_a_taken_port_and_a_page_that_is_no_dashboard(
    tmp_path: Path, server: str
) -> None:
    found = faults(setup(tmp_path, prefect_url=f"{server}/api", ray_address=server))
    assert set(found) == {"prefect", "ray"}
    assert "does not accept" in found["prefect"].found
    taken = int(server.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert set(faults(setup(tmp_path, prefect_port=taken))) == {"port"}
        assert set(faults(setup(tmp_path, prefect_port=listener.getsockname()[1]))) == {"port"}
    assert faults(setup(tmp_path, prefect_port=free_port())) == {}


def test_a_bucket_without_conditions_and_with_another_clock_is_found(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_ENDPOINT_URL_S3": server, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    script = (
        "import os; from pathlib import Path\n"
        "from infinity.jobs.doctor.finding import Setup; from infinity.jobs.doctor import places\n"
        f"given = Setup(environment=os.environ, runs='s3://bucket/runs', state=Path({str(tmp_path)!r}))\n"
        "found = [each for check in (places.outputs, places.clocks) for each in check(given)]\n"
        "assert [each.verdict for each in found] == ['fault', 'fault'], found\n"
        "assert 'does not keep the condition' in found[0].found, found\n"
        "assert '3600 s apart' in found[1].found or '3599 s apart' in found[1].found, found\n"
    )
    # A process of its own: what is known of a bucket is known for the life of a process.
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=AGES_S
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_too_few_open_files_are_found(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        assert set(faults(setup(tmp_path))) == {"open files"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_gpu_that_torch_cannot_use_is_found(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200'\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    assert set(faults(setup(tmp_path, {"PATH": path}))) == {"gpu"}


def test_versions_out_of_bounds_are_found() -> None:
    assert list(unmet(required())) == []
    wanted = ["ray>=99", "no-such-package-of-ours>=1", "pydantic>=2"]
    assert [name for name, _, _ in unmet(wanted)] == ["ray", "no-such-package-of-ours"]


def test_a_node_with_other_versions_or_another_time_or_without_an_answer_is_found() -> None:
    mine = about_this_machine()
    assert [found.verdict for found in compared(mine, [mine, dict(mine)])] == ["good"]
    other = mine | {"host": "node-2", "torch": "1.0", "clock": mine["clock"] - 600}
    found = list(compared(mine, [mine, other, "node-3 did not tell about itself (GetTimeoutError)"]))
    assert [each.verdict for each in found] == ["fault"] * 3
    assert "node-2 has torch 1.0" in found[0].found
    assert "600 s apart" in found[1].found
