"""The local stack says clearly why it does not run, and starts, is found again and stops when it does."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from infra import stack as stack_module
from infra.environment import free_port, is_free_port
from infra.settings import Settings
from infra.stack import Stack, StackError
from tests.limits import AGES_S, wait_until
from tests.prefect_api import ask


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    return Settings(state=tmp_path / "state", runs=str(tmp_path / "runs"), prefect_port=free_port())


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_listening_port_is_not_free(taken_port: int) -> None:
    assert not is_free_port(taken_port)
    assert is_free_port(free_port())


def test_a_chosen_port_that_is_taken_is_a_clear_error(config: Settings, taken_port: int) -> None:
    stack = Stack(config.model_copy(update={"prefect_port": taken_port}))
    with pytest.raises(StackError, match=f"port {taken_port} .* is taken by another program; choose another port"):
        stack.server_up()
    assert stack.register.services() == {}


def test_without_a_chosen_port_a_taken_default_is_stepped_round(
    config: Settings, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "DEFAULT_PORT", taken_port)
    port = Stack(config.model_copy(update={"prefect_port": None}))._choose_port()
    assert port != taken_port
    assert is_free_port(port)


def test_a_named_server_that_does_not_answer_is_a_clear_error(config: Settings) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with pytest.raises(StackError, match=f"nobody answers at PREFECT_API_URL={url}"):
        Stack(config.model_copy(update={"prefect_api_url": url})).server_up()


def test_a_server_that_dies_shows_the_end_of_its_log(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "raise SystemExit('the database is gone')"]
    monkeypatch.setattr(stack_module, "_server_command", lambda port: command)
    stack = Stack(config)
    with pytest.raises(StackError, match=r"server died while starting(.|\n)*the database is gone"):
        stack.server_up()
    assert stack.register.services() == {}


def test_a_server_that_never_answers_is_given_up_and_stays_recorded(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import time; print('still thinking', flush=True); time.sleep(3600)"]
    monkeypatch.setattr(stack_module, "_server_command", lambda port: command)
    stack, now = Stack(config), [0.0]

    def sleep(seconds: float) -> None:
        """Time passes when the process has had its say."""
        log = stack.register.services()["server"].log
        wait_until(lambda: "still thinking" in Path(log).read_text("utf-8"), "a word of the process")
        now[0] += seconds

    monkeypatch.setattr(stack_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with pytest.raises(StackError, match=r"not ready after 1 s(.|\n)*still thinking"):
        stack.server_up(timeout_s=1.0)
    assert stack.down() == ["server"]
    assert stack.down() == []


def test_files_of_runs_are_served_on_loopback(config: Settings) -> None:
    stack = Stack(config)
    try:
        url = stack.files_up()
        assert url == stack.files_up()
        Path(config.runs, "page.html").write_text("a page")
        assert httpx.get(f"{url}/page.html", trust_env=False, timeout=AGES_S).text == "a page"
    finally:
        assert stack.down() == ["files"]
    assert Stack(config.model_copy(update={"runs": "s3://bucket/runs"})).files_up() is None


@pytest.mark.prefect
@pytest.mark.slow
def test_the_stack_is_found_again_deploys_every_flow_and_stops_its_worker(prefect_stack: Stack) -> None:
    """That its server starts and stops is seen where the session's server does."""
    server = prefect_stack.server_up()
    again = Stack(prefect_stack.config)
    assert again.server_up() == server
    try:
        worker = prefect_stack.worker_up(server)
        assert worker.is_alive()
        assert again.register.living("worker") == worker
        query = {"deployments": {"name": {"any_": ["local"]}}}
        found = ask(server.api_url, "deployments/filter", query)
        assert len(found) == 7
        assert {deployment["work_pool_name"] for deployment in found} == {"local"}
    finally:
        prefect_stack.stop("worker")
    assert not worker.is_alive()
    assert again.register.living("worker") is None
