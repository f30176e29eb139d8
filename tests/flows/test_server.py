"""The stack's Prefect server answers to who has its secret, under its own names, and to no page of another origin."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from infra.environment import free_port
from infra.server import keys
from infra.server.prefect_api import PrefectApi
from infra.server.styled import STYLE_PATH
from infra.stack import Stack
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask
from tests.fixtures.servers.sockets import commands, listening_addresses

pytestmark = pytest.mark.prefect

HARMLESS = ("health", "ready")
"""Probes of life, which tell nothing and are open."""


def request(api: str, method: str, path: str, content: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(method, f"{api}/{path}", json=content, headers=headers, timeout=AGES_S, trust_env=False)


def schema(api: str) -> dict[str, Any]:
    client = PrefectApi(api, os.environ["PREFECT_API_AUTH_STRING"], timeout_s=AGES_S)
    found: dict[str, Any] = client.ask("GET", "openapi.json").json()
    return found


def test_every_address_of_the_api_refuses_who_shows_no_secret(prefect_server: str) -> None:
    paths = schema(prefect_server)["paths"]
    assert len(paths) > 100
    for path, methods in paths.items():
        for method in set(methods) - {"head"}:
            where = path.replace("{", "").replace("}", "").removeprefix("/")
            status = request(prefect_server, method, where, {}).status_code
            if where in HARMLESS and method == "get":
                assert status == 200
            else:
                assert status in (401, 403), (method, path, status)


@pytest.mark.parametrize("secret", ["", "infinity:", "infinity:guess", "guess"])
def test_a_wrong_secret_is_refused(prefect_server: str, secret: str) -> None:
    client = PrefectApi(prefect_server, secret, timeout_s=AGES_S)
    assert client.ask("GET", "admin/version").status_code == 401
    assert not client.is_accepted()


def test_a_change_needs_the_protection_against_forged_requests_too(prefect_server: str) -> None:
    client = PrefectApi(prefect_server, os.environ["PREFECT_API_AUTH_STRING"], timeout_s=AGES_S)
    assert request(prefect_server, "POST", "flow_runs/count", {}, **client._headers()).status_code == 403
    assert client.ask("POST", "flow_runs/count", {}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4200", "127.0.0.1.evil.example", "prefect:4200", "10.0.0.1:4200", ""]
)
def test_under_another_name_nothing_is_answered(prefect_server: str, host: str) -> None:
    for path in ("health", "admin/version", ""):
        assert request(prefect_server, "GET", path, host=host).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "https://127.0.0.1"]
)
def test_pages_of_other_origins_are_refused_and_told_so(prefect_server: str, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = request(prefect_server, method, "health", origin=origin, **{"access-control-request-method": "POST"})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_the_servers_own_pages_are_allowed_under_both_of_its_names(prefect_server: str) -> None:
    port = httpx.URL(prefect_server).port
    for name in ("127.0.0.1", "localhost"):
        answer = request(prefect_server, "GET", "health", origin=f"http://{name}:{port}")
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == f"http://{name}:{port}"


@pytest.mark.parametrize("path", ["events/out", "events/in", "logs/out"])
def test_a_socket_is_refused_to_strangers_and_to_pages_of_other_origins(prefect_server: str, path: str) -> None:
    address = f"{prefect_server.replace('http', 'ws')}/{path}"
    with pytest.raises(InvalidStatus), connect(address, origin="http://evil.example", proxy=None):  # type: ignore[arg-type]
        pass
    with connect(address, subprotocols=["prefect"], proxy=None) as socket:  # type: ignore[list-item]
        socket.send('{"type": "auth", "token": "infinity:guess"}')
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=AGES_S)


def test_its_pages_have_the_style_of_forms_and_no_answer_of_the_api_has_it(prefect_server: str) -> None:
    ui = prefect_server.removesuffix("/api")
    for path in ("", "deployments", "runs/flow-run/1"):
        answer = request(ui, "GET", path, accept="text/html")
        assert answer.status_code == 200
        assert answer.text.count(STYLE_PATH) == 1
    assert STYLE_PATH not in request(prefect_server, "GET", "health").text
    assert request(ui, "GET", STYLE_PATH.removeprefix("/")).headers["content-type"].startswith("text/css")


def test_artifacts_are_shown_newest_first(prefect_server: str) -> None:
    flow = ask(prefect_server, "flows/", {"name": "artifacts"})["id"]
    run = ask(prefect_server, "flow_runs/", {"flow_id": flow})["id"]
    names = [f"card-{number}" for number in range(12)]
    for key in names:
        ask(prefect_server, "artifacts/", {"key": key, "type": "markdown", "data": "text", "flow_run_id": run})
    asked_by_the_page = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"not_any_": ["result"]}}}
    assert [card["key"] for card in ask(prefect_server, "artifacts/filter", asked_by_the_page)] == names[::-1]


def test_it_listens_on_loopback_alone(prefect_stack: Stack, prefect_server: str) -> None:
    pid = prefect_stack.register.services()["server"].pid
    assert {address for address, _ in listening_addresses([pid])} == {"127.0.0.1"}


def test_the_secret_is_nowhere_but_in_its_files(prefect_stack: Stack, prefect_server: str) -> None:
    ask(prefect_server, "flow_runs/count")
    secret = keys.key(prefect_stack.config.state, keys.PREFECT_AUTH)
    password = secret.partition(":")[2]
    assert not [command for command in commands() if password in command]
    holding = [
        path.relative_to(prefect_stack.config.state.resolve()).parts[0]
        for path in prefect_stack.config.state.resolve().rglob("*")
        if path.is_file() and password.encode() in path.read_bytes()
    ]
    assert set(holding) == {keys.FOLDER}


def test_without_a_secret_it_does_not_start() -> None:
    environment = {name: value for name, value in os.environ.items() if "AUTH_STRING" not in name}
    command = [sys.executable, "-m", "flows.server", "--port", str(free_port())]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=AGES_S, check=False)
    assert ended.returncode == 1
    assert "PREFECT_SERVER_API_AUTH_STRING is not set" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert Path(sys.executable).exists()
