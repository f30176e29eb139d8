"""A page of another origin, in a real browser, can neither read nor write the servers of the local stack."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from infra.stack import Stack
from tests.browser.screenshots import Browser, open_browser, why_no_browser
from tests.fixtures.servers.prefect_api import ask

pytestmark = [
    pytest.mark.browser,
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.skipif(why_no_browser() is not None, reason=why_no_browser() or ""),
]

STRANGER = "evil.example"
VARIABLE = "written-by-a-stranger"

ATTACK = """
const [api, file, read] = arguments;
const body = JSON.stringify({name: "written-by-a-stranger", value: "x"});
const seen = async (what, ask) => {
  try { const answer = await ask(); return [what, answer.type, answer.status, (await answer.text()).slice(0, 80)]; }
  catch (error) { return [what, "blocked"]; }
};
const socket = () => new Promise(resolve => {
  const it = new WebSocket(api.replace("http", "ws") + "/events/out", ["prefect"]);
  it.onopen = () => resolve(["socket", "opened"]);
  it.onerror = () => resolve(["socket", "blocked"]);
});
const picture = () => new Promise(resolve => {
  const it = new Image();
  it.onload = () => resolve(["picture", "shown"]);
  it.onerror = () => resolve(["picture", "blocked"]);
  it.src = file;
});
return Promise.all([
  seen("read", () => fetch(api + read)),
  seen("read the page", () => fetch(api.replace("/api", "/"))),
  seen("read a file", () => fetch(file)),
  seen("write JSON", () => fetch(api + "/variables/",
    {method: "POST", body, headers: {"Content-Type": "application/json"}})),
  seen("write what needs no preflight", () => fetch(api + "/variables/", {method: "POST", body, mode: "no-cors"})),
  seen("write with a password", () => fetch(api + "/variables/", {method: "POST", body,
    headers: {"Content-Type": "application/json", "Authorization": "Basic " + btoa("infinity:guess")}})),
  picture(), socket(),
]);
"""


class OpenDoor(BaseHTTPRequestHandler):
    """A server that lets every page in, as Prefect's own does by default; counts what was written to it."""

    written = 0

    def do_GET(self) -> None:
        self._answer(b"<title>a page</title>")

    def do_OPTIONS(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        type(self).written += 1
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        for name in ("Origin", "Headers", "Methods"):
            self.send_header(f"Access-Control-Allow-{name}", "*" if name != "Headers" else "content-type,authorization")
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """Port of the stranger's own server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenDoor)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for which the stranger's name leads to this machine, at every port."""
    with open_browser(f"--host-resolver-rules=MAP {STRANGER} 127.0.0.1") as opened:
        yield opened


@pytest.fixture(scope="module")
def file_url(prefect_stack: Stack) -> Iterator[str]:
    """Address of a picture of a run, with the token; a stranger who knew even that could not show it."""
    from PIL import Image

    base = prefect_stack.files_up()
    assert base is not None
    Image.new("RGB", (4, 4)).save(Path(prefect_stack.config.runs, "picture.png"))
    assert httpx.get(f"{base}/picture.png", trust_env=False).status_code == 200
    yield f"{base}/picture.png"
    prefect_stack.stop("files")


def variables(api: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(api, "variables/filter", {"variables": {"name": {"any_": [VARIABLE]}}})
    return found


def test_the_attacks_of_this_test_succeed_at_an_open_door(browser: Browser, stranger: int, file_url: str) -> None:
    browser.open(f"http://{STRANGER}:{stranger}/", settle_s=0)
    target = f"http://127.0.0.1:{stranger}"
    before = OpenDoor.written
    outcome = {entry[0]: entry[1:] for entry in browser.run(ATTACK, f"{target}/api", f"{target}/x", "/health")}
    assert outcome["read"] == ["cors", 200, "<title>a page</title>"]
    assert outcome["read a file"][0] == outcome["read the page"][0] == "cors"
    assert OpenDoor.written == before + 3


@pytest.mark.parametrize("read", ["/health", "/admin/version", "/flow_runs/count"])
def test_a_page_of_another_origin_reads_nothing_and_writes_nothing(
    browser: Browser, stranger: int, prefect_server: str, file_url: str, read: str
) -> None:
    browser.open(f"http://{STRANGER}:{stranger}/", settle_s=0)
    for entry in browser.run(ATTACK, prefect_server, file_url, read):
        if entry[0] == "write what needs no preflight":
            assert entry[1:] == ["opaque", 0, ""], entry  # sent and refused; the page is not told
        else:
            assert entry[1:] == ["blocked"], entry
    assert variables(prefect_server) == []


def test_a_page_whose_name_leads_here_is_refused_at_every_server(
    browser: Browser, prefect_server: str, file_url: str
) -> None:
    """The name of a stranger's page points to this machine after it was loaded, so that its origin is the server's."""
    for url in (prefect_server, f"{prefect_server}/admin/version", prefect_server.removesuffix("api"), file_url):
        port_on = url.partition("127.0.0.1")[2]
        said = browser.open(f"http://{STRANGER}{port_on}", settle_s=0)
        assert "answers to" in said, (url, said)
        assert "127.0.0.1" in said


def test_one_click_on_the_file_of_the_user_opens_the_pages(
    browser: Browser, prefect_server: str, prefect_stack: Stack, tmp_path: Path
) -> None:
    browser.open(f"{prefect_server.removesuffix('/api')}/runs", until=("Login",), settle_s=0)
    server = prefect_stack.server_up()
    page = prefect_stack.login_page(server, "/deployments")
    assert page is not None
    browser.open(page.as_uri(), until=("Deployments",), settle_s=1.0)
    assert browser.run("return location.pathname + location.hash") == "/deployments"
    assert "Login" not in browser.text()
    browser.shoot(tmp_path / "deployments.png")
    # The page writes too, through the protection against forged requests.
    answer = browser.run(
        "return fetch('/api/variables/filter', {method: 'POST', body: '{}', headers: {'Content-Type': "
        "'application/json', Authorization: 'Basic ' + localStorage.getItem('prefect-password')}}).then(a => a.status)"
    )
    assert answer == httpx.codes.FORBIDDEN  # without the token of the page's own session


def test_a_wrong_or_foreign_login_page_does_not_replace_the_login(
    browser: Browser, prefect_server: str, prefect_stack: Stack
) -> None:
    ui = prefect_server.removesuffix("/api")
    page = prefect_stack.login_page(prefect_stack.server_up())
    assert page is not None
    browser.open(page.as_uri(), until=("Dashboard",), settle_s=0)
    kept = browser.run("return localStorage.getItem('prefect-password')")
    browser.open(f"{ui}/infinity/log-in#d3Jvbmc6d3Jvbmc=&/runs", until=("does not accept",), settle_s=0)
    assert browser.run("return localStorage.getItem('prefect-password')") == kept
    for path in ("//evil.example/", "https://evil.example/", "javascript:alert(1)"):
        browser.open("about:blank", settle_s=0)
        browser.open(f"{ui}/infinity/log-in#{kept}&{path}", until=("Dashboard",), settle_s=0)
        assert browser.run("return location.origin") == ui


def test_no_other_site_can_show_the_pages_in_a_frame(prefect_server: str, file_url: str) -> None:
    for url, allowed in ((prefect_server.removesuffix("api"), "DENY"), (file_url, "SAMEORIGIN")):
        assert httpx.get(url, trust_env=False).headers["X-Frame-Options"] == allowed
    assert json.loads(httpx.get(f"{prefect_server.removesuffix('api')}ui-settings", trust_env=False).text)["auth"]
