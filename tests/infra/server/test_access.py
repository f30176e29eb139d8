"""Settings of server and clients agree or are refused with one sentence; the file server keeps its port."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.environment import free_port
from infra.server import keys
from infra.server.access import FILES_PORTS, StackError, auth_string, exports, files_port
from infra.settings import Settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "INFINITY_FILES_PORT"):
        monkeypatch.delenv(name, raising=False)


def config(state: Path, **fields: Any) -> Settings:
    return Settings(state=state, **fields)


def test_the_stacks_own_server_asks_for_a_secret_of_its_folder(tmp_path: Path) -> None:
    assert auth_string(config(tmp_path)) == keys.key(tmp_path, keys.PREFECT_AUTH)


def test_what_the_user_has_chosen_counts(tmp_path: Path) -> None:
    assert auth_string(config(tmp_path, prefect_auth="me:pw")) == "me:pw"
    assert auth_string(config(tmp_path, prefect_auth="me:pw", prefect_server_auth="me:pw")) == "me:pw"
    assert not (tmp_path / keys.FOLDER).exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"prefect_server_auth": "me:pw"},
            "PREFECT_API_AUTH_STRING is not, .* set PREFECT_API_AUTH_STRING to the same",
        ),
        ({"prefect_server_auth": "me:pw", "prefect_auth": "me:other"}, "differ, .* set both to the same text"),
    ],
)
def test_settings_that_would_lock_every_client_out_are_refused(
    tmp_path: Path, fields: dict[str, str], sentence: str
) -> None:
    with pytest.raises(StackError, match=sentence) as error:
        auth_string(config(tmp_path, **fields))
    assert "me:" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_elsewhere_is_not_shown_the_secret_of_this_folder(tmp_path: Path) -> None:
    elsewhere = {"prefect_api_url": "https://prefect.example.com/api"}
    assert auth_string(config(tmp_path, **elsewhere)) is None
    assert auth_string(config(tmp_path, **elsewhere, prefect_auth="me:pw")) == "me:pw"


def test_lines_for_a_shell_set_the_environment_and_hold_no_secret(tmp_path: Path) -> None:
    state = tmp_path / "a folder's name"
    settings = config(state)
    secret, token = keys.key(state, keys.PREFECT_AUTH), keys.key(state, keys.FILES_TOKEN)
    environment = {
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_API_AUTH_STRING": secret,
        "INFINITY_FILES_URL": f"http://127.0.0.1:21000/{token}",
    }
    lines = "\n".join(exports(settings, environment))
    assert secret not in lines
    assert token not in lines
    script = f"{lines}\n" + "".join(f'printf "%s\\n" "${name}"\n' for name in environment)
    said = subprocess.run(["bash", "-euc", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert said.stdout.splitlines() == list(environment.values()), said.stderr


def test_a_secret_that_the_user_has_set_himself_is_not_repeated(tmp_path: Path) -> None:
    assert exports(config(tmp_path, prefect_auth="me:pw"), {"PREFECT_API_AUTH_STRING": "me:pw"}) == []


def test_the_file_server_has_the_same_port_at_every_start(tmp_path: Path) -> None:
    ports = {files_port(config(tmp_path)) for _ in range(5)}
    assert len(ports) == 1
    assert ports <= set(FILES_PORTS)


def test_a_port_that_is_chosen_counts_and_is_remembered(tmp_path: Path) -> None:
    port = free_port()
    assert files_port(config(tmp_path, files_port=port)) == port
    assert files_port(config(tmp_path)) == port


def test_a_remembered_port_that_is_taken_is_a_clear_error_and_stays_remembered(tmp_path: Path) -> None:
    port = files_port(config(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(StackError, match=f"port {port} of the file server, .* is taken by another program: stop"):
            files_port(config(tmp_path))
    assert files_port(config(tmp_path)) == port


def test_a_damaged_memory_of_the_port_is_a_clear_error(tmp_path: Path) -> None:
    files_port(config(tmp_path))
    (tmp_path / "stack" / "files-port").write_text("half a lin")
    with pytest.raises(StackError, match="expected the port of the file server, found 'half a lin'"):
        files_port(config(tmp_path))
