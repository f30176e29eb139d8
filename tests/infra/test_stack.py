"""The local stack says clearly why it does not run, and starts, is found again and stops when it does."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from pydantic import SecretStr

from infra import processes, stack_commands
from infra import stack as stack_module
from infra.environment import free_port, is_free_port
from infra.processes import Register
from infra.settings import REPOSITORY, Settings
from infra.stack import Stack, StackError
from tests.fixtures.limits import AGES_S, wait_until
from tests.fixtures.servers.prefect_api import ask


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


def test_files_of_runs_are_served_on_loopback_at_the_same_address_after_a_restart(config: Settings) -> None:
    urls = []
    for _ in range(2):
        stack = Stack(config)
        try:
            url = stack.files_up()
            assert url == stack.files_up()
            urls.append(url)
            Path(config.runs, "page.html").write_text("a page")
            assert httpx.get(f"{url}/page.html", trust_env=False, timeout=AGES_S).text == "a page"
            service = stack.register.services()["files"]
            assert httpx.get(f"{service.url}/page.html", trust_env=False, timeout=AGES_S).status_code == 403
        finally:
            assert stack.down() == ["files"]
    assert urls[0] == urls[1]
    assert Stack(config.model_copy(update={"runs": "s3://bucket/runs"})).files_up() is None


def test_commands_that_start_the_stack_at_once_start_each_service_once(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two terminals do: a second server of one database would stay behind when the stack ends."""
    started, usual = list[processes.Service](), processes.start

    def start(*arguments: Any, **options: Any) -> processes.Service:
        time.sleep(0.3)  # as on a busy machine
        service = usual(*arguments, **options)
        started.append(service)
        return service

    monkeypatch.setattr(processes, "start", start)
    try:
        with ThreadPoolExecutor(4) as pool:
            urls = set(pool.map(lambda _: Stack(config).files_up(), range(4)))
        assert len(urls) == len(started) == 1
    finally:
        Stack(config).down()
        left = [service for service in started if processes.stop(service)]
    assert not left


class OpenServer(BaseHTTPRequestHandler):
    """As a server of an earlier version: everybody may ask how much is going on."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"2")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def start_as_earlier(config: Settings, name: str, url: str) -> processes.Service:
    """A service that an earlier version started and recorded."""
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    log = config.state / "stack" / f"{name}.log"
    service = processes.start(name, command, environment={}, log=log, url=url, cwd=config.state.parent)
    Register(config.state / "stack" / "services.json").add(service)
    path = config.state / "stack" / "services.json"
    records = json.loads(path.read_text())
    del records[name]["is_guarded"]
    path.write_text(json.dumps(records))
    return service


def test_services_of_an_earlier_version_are_replaced_by_guarded_ones(
    config: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    old = [start_as_earlier(config, name, "http://127.0.0.1:9") for name in ("files", "worker", "ray")]
    stack = Stack(config)
    try:
        stack.files_up()
        assert not any(service.is_alive() for service in old)
        assert stack.register.services()["files"].is_guarded
        assert set(stack.register.services()) == {"files"}
    finally:
        stack.down()
    said = capsys.readouterr().out
    assert all(f"{name}: stopped, since an earlier version" in said for name in ("files", "worker", "ray"))


def test_an_earlier_server_on_which_runs_are_going_on_is_not_cut_off(config: Settings) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenServer)
    Thread(target=server.serve_forever).start()
    old = start_as_earlier(config, "server", f"http://127.0.0.1:{server.server_port}/api")
    stack = Stack(config)
    try:
        with pytest.raises(StackError, match=r"of an earlier version runs, .* 2 runs are going on .* 'make down'"):
            stack.server_up()
        assert old.is_alive()
    finally:
        stack.down()
        server.shutdown()
        server.server_close()


def test_settings_that_lock_every_client_out_end_up_with_one_sentence(
    config: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        stack_commands, "settings", lambda: config.model_copy(update={"prefect_server_auth": SecretStr("a:b")})
    )
    assert stack_commands.main(["up"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: PREFECT_SERVER_API_AUTH_STRING is set and PREFECT_API_AUTH_STRING is not")
    assert said.count("\n") == 1


@pytest.mark.prefect
def test_a_server_elsewhere_that_asks_for_a_secret_is_a_clear_error_without_it(
    config: Settings, prefect_server: str, prefect_stack: Stack
) -> None:
    elsewhere = config.model_copy(update={"prefect_api_url": prefect_server})
    with pytest.raises(StackError, match="asks for authentication: set PREFECT_API_AUTH_STRING"):
        Stack(elsewhere).server_up()
    with pytest.raises(StackError, match="does not accept PREFECT_API_AUTH_STRING"):
        Stack(elsewhere.model_copy(update={"prefect_auth": SecretStr("me:guess")})).server_up()
    right = SecretStr(prefect_stack.auth() or "")
    assert Stack(elsewhere.model_copy(update={"prefect_auth": right})).server_up().api_url == prefect_server


@pytest.mark.prefect
@pytest.mark.slow
def test_the_stack_is_found_again_deploys_every_flow_and_stops_its_worker(
    prefect_stack: Stack, prefect_server: str
) -> None:
    """That its server starts and stops is seen where the session's server does."""
    server = prefect_stack.server_up()
    again = Stack(prefect_stack.config)
    assert again.server_up() == server
    try:
        (worker,) = prefect_stack.worker_up(server)
        assert worker.is_alive()
        assert again.register.living("worker") == worker
        query = {"deployments": {"name": {"any_": ["local"]}}}
        found = ask(server.api_url, "deployments/filter", query)
        wanted = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
        assert {each["entrypoint"] for each in found} == {entry["entrypoint"] for entry in wanted}
        assert {deployment["work_pool_name"] for deployment in found} == {"local"}
    finally:
        prefect_stack.stop("worker")
    assert not worker.is_alive()
    assert again.register.living("worker") is None


@pytest.mark.parametrize(
    ("refusals", "command", "is_done"), [(3, "deploy", True), (4, "deploy", False), (1, "work-pool", False)]
)
def test_a_deploy_is_repeated_while_the_database_is_busy(
    config: Settings, monkeypatch: pytest.MonkeyPatch, refusals: int, command: str, is_done: bool
) -> None:
    answers = iter([*[StackError("Server error '503 Service Unavailable' for url 'u'")] * refusals, ""])

    def told(*_: object) -> str:
        answer = next(answers)
        if isinstance(answer, StackError):
            raise answer
        return answer

    stack = Stack(config)
    monkeypatch.setattr(stack, "_told", told)
    monkeypatch.setattr(stack_module, "BUSY_PAUSE_S", 0.0)
    server = stack_module.Server("http://127.0.0.1:1/api")
    if is_done:
        stack._prefect(server, command)
        assert not list(answers)
    else:
        with pytest.raises(StackError, match="503"):
            stack._prefect(server, command)
