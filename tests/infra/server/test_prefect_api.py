"""What is asked of a Prefect server that is busy, or that is not there."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from infra.server import prefect_api
from infra.server.prefect_api import PrefectApi
from tests.fixtures.limits import AGES_S


class Busy(ThreadingHTTPServer):
    """Answers 503 to as many requests as its list says, then 200; it notes every request."""

    def __init__(self, times: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.left, self.asked = times, list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server: Any = self.server
        if "csrf" in self.path:
            self._send(422)
            return
        server.asked.append(f"{self.command} {self.path}")
        server.left -= 1
        self._send(503 if server.left >= 0 else 200)

    do_GET = do_POST = do_PATCH = _answer

    def _send(self, status: int) -> None:
        content = json.dumps({"status": status}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_api, "BUSY_PAUSE_S", 0.01)


@pytest.fixture
def busy(request: pytest.FixtureRequest) -> Iterator[Busy]:
    server = Busy(request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(AGES_S)


@pytest.mark.parametrize("busy", [0, 1, 3], indirect=True)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_server_whose_database_is_locked_is_asked_again(busy: Busy, quick: None, method: str) -> None:
    times = busy.left
    answer = PrefectApi(busy.url, timeout_s=AGES_S).ask(method, "deployments/1", {})
    assert answer.status_code == 200
    assert busy.asked == [f"{method} /deployments/1"] * (times + 1)


@pytest.mark.parametrize("busy", [10**6], indirect=True)
def test_a_server_that_stays_busy_is_given_up_with_its_answer(busy: Busy, quick: None) -> None:
    assert PrefectApi(busy.url, timeout_s=0.2).ask("GET", "deployments/1").status_code == 503
    assert len(busy.asked) > 1


@pytest.mark.parametrize("busy", [1], indirect=True)
def test_whether_a_server_is_healthy_is_asked_once(busy: Busy) -> None:
    assert not PrefectApi(busy.url).is_healthy()
    assert PrefectApi(busy.url).is_healthy()
    assert len(busy.asked) == 2


def test_where_nobody_listens_there_is_no_answer() -> None:
    api = PrefectApi("http://127.0.0.1:9", timeout_s=AGES_S)
    assert api.try_ask("GET", "health") is None
    with pytest.raises(httpx.HTTPError):
        api.ask("GET", "health")
