"""The file server gives files of runs to who has its token and calls it by its own name, and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from infra.environment import free_port
from infra.files import FileServer, Handler, is_served
from tests.fixtures.limits import AGES_S, wait_until
from tests.fixtures.servers.leaving_client import error_of_a_client_that_leaves
from tests.fixtures.servers.sockets import commands

TOKEN = "a-secret_of-43-characters-and-then-some-more"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status_code: int
    text: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Files:
    """A running file server.

    Attributes:
        url: Without the token.
        folder: What it serves.
        log: What it says.
    """

    url: str
    folder: Path
    log: Path

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request with the path as it stands, which no client library has put straight."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=AGES_S)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = Answer(answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()})
        connection.close()
        return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    home = tmp_path_factory.mktemp("files")
    folder, token, log = home / "runs", home / "token", home / "log"
    (folder / "demo" / "model").mkdir(parents=True)
    (folder / "demo" / "report.html").write_text("a report")
    (folder / "demo" / "model" / "weights").write_text("weights")
    (home / "outside").write_text("of somebody else")
    (folder / "demo" / "link").symlink_to(home / "outside")
    (folder / "demo" / "up").symlink_to(home)
    token.write_text(f"{TOKEN}\n")
    port = free_port()
    command = [sys.executable, "-m", "infra.files", "--folder", str(folder), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--token-file", str(token)], stderr=output)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: is_served(url), "an answer of the file server")
    yield Files(url, folder, log)
    process.terminate()
    process.wait()


def test_with_the_token_files_and_folders_open(files: Files) -> None:
    assert files.get(f"/{TOKEN}/demo/report.html").text == "a report"
    assert "weights" in files.get(f"/{TOKEN}/demo/model/").text
    # A folder without its last slash leads there, and relative links of a page keep the token.
    assert files.get(f"/{TOKEN}/demo/model").headers["location"].endswith(f"/{TOKEN}/demo/model/")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/demo/report.html",
        "/wrong/demo/report.html",
        f"/{TOKEN[:-1]}/demo/report.html",
        f"/{TOKEN}x/demo/report.html",
        f"/demo/../{TOKEN}/demo/report.html",
        f"/demo/report.html?{TOKEN}",
        f"/?/{TOKEN}/demo/report.html",
        "/%C3%A9/demo/report.html",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_without_the_token_nothing_opens(files: Files, path: str, method: str) -> None:
    answer = files.get(path, method)
    assert answer.status_code == 403
    assert "a report" not in answer.text


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil:{port}", "", "[::]:1"],
)
def test_under_another_name_nothing_opens(files: Files, host: str) -> None:
    port = files.url.rpartition(":")[2]
    assert files.get(f"/{TOKEN}/demo/report.html", Host=host.format(port=port)).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost:9999"])
def test_under_its_own_names_it_answers(files: Files, host: str) -> None:
    host = host.format(port=files.url.rpartition(":")[2])
    assert files.get(f"/{TOKEN}/demo/report.html", Host=host).text == "a report"


@pytest.mark.parametrize(
    "path", ["link", "up/outside", "up/", "../../outside", "%2e%2e/%2e%2e/outside", "..%2f..%2foutside"]
)
def test_nothing_outside_the_folder_opens(files: Files, path: str) -> None:
    answer = files.get(f"/{TOKEN}/demo/{path}")
    assert answer.status_code in (403, 404)
    assert "of somebody else" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed_and_no_other_origin_is_allowed(files: Files, method: str) -> None:
    assert files.get(f"/{TOKEN}/demo/report.html", method).status_code == 501
    answer = files.get(f"/{TOKEN}/demo/report.html", Origin="http://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-site"


def test_the_token_is_neither_in_the_log_nor_in_the_list_of_processes(files: Files) -> None:
    files.get(f"/{TOKEN}/demo/nothing-here")
    wait_until(lambda: "nothing-here" in files.log.read_text(), "a line of the log")
    assert TOKEN not in files.log.read_text()
    assert not [command for command in commands() if TOKEN in command]


def test_a_browser_that_leaves_makes_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "model").open("wb") as file:
        file.truncate(50 * 2**20)
    server = FileServer(("127.0.0.1", 0), partial(Handler, token=TOKEN, directory=str(tmp_path)))
    printed = error_of_a_client_that_leaves(server, f"/{TOKEN}/model", monkeypatch, capfd)
    assert "GET /.../model" in printed
    assert "Traceback" not in printed
