"""A proxy that is asked to stop answers what it has, to the last byte, and takes nothing new."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infinity.serving.stopping import STOP_PATH, TOKEN_VARIABLE, StopWhenSent, stop_proxy
from infra.environment import free_port
from tests.fixtures.limits import AGES_S

uvicorn = pytest.importorskip("uvicorn")
TOKEN = "a token of the test"
LONG = b"x" * 2**23
"""More than the buffers of both ends hold."""


class Behind:
    """Application that answers when it may, with a long body at /long."""

    def __init__(self) -> None:
        self.may, self.asked = threading.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        while not self.may.is_set():
            await asyncio.sleep(0.01)
        body = LONG if scope["path"] == "/long" else b"short"
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class Proxy:
    """Uvicorn as Ray runs it: as a task of an event loop that goes on."""

    def __init__(self, behind: Behind) -> None:
        self.port, self.behind, self.ends = free_port(), behind, threading.Event()
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))
        self.thread.start()
        until = time.monotonic() + AGES_S
        while not self.is_open():
            assert time.monotonic() < until
            time.sleep(0.01)

    async def run(self) -> None:
        app = StopWhenSent(self.behind, idle_s=1.5)
        config = uvicorn.Config(app, port=self.port, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not self.ends.is_set():
            await asyncio.sleep(0.01)
        server.should_exit = True
        await serving

    def is_open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def connected(self) -> socket.socket:
        found = socket.socket()
        self.connections.append(found)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        found.settimeout(AGES_S)
        found.connect(("127.0.0.1", self.port))
        return found

    def stopping(self, token: str = TOKEN) -> threading.Thread:
        thread = threading.Thread(target=stop_proxy, args=("127.0.0.1", self.port, token), daemon=True)
        thread.start()
        return thread


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    found = Proxy(Behind())
    yield found
    for connection in found.connections:
        connection.close()
    found.behind.may.set()
    found.ends.set()
    found.thread.join()


def ask(connection: socket.socket, path: str) -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of all that comes until the connection ends."""
    pieces = []
    while piece := connection.recv(2**20):
        pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    return head, body


def soon(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + AGES_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_answers_reach_slow_readers_whole_and_nothing_new_is_taken(proxy: Proxy) -> None:
    slow, other, late = proxy.connected(), proxy.connected(), proxy.connected()
    ask(slow, "/long")
    ask(other, "/")
    soon(lambda: proxy.behind.asked == 2)
    stopping = proxy.stopping()
    soon(lambda: not proxy.is_open())
    ask(late, "/late")  # on its way when the listener closed
    soon(lambda: proxy.behind.asked == 3)
    proxy.behind.may.set()
    for each in (other, late):
        head, body = answer(each)
        assert head.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in head
        assert body == b"short"
    time.sleep(1.0)
    assert stopping.is_alive(), "the proxy says that all is sent, while an answer is on its way"
    assert answer(slow)[1] == LONG
    stopping.join(AGES_S)
    assert not stopping.is_alive()


def test_an_idle_connection_is_closed_and_not_waited_for(proxy: Proxy) -> None:
    idle = proxy.connected()
    stopping = proxy.stopping()
    stopping.join(AGES_S)
    assert not stopping.is_alive()
    assert idle.recv(1) == b""


@pytest.mark.parametrize("token", ["", "another token"])
def test_who_does_not_know_the_token_asks_the_application(proxy: Proxy, token: str) -> None:
    proxy.behind.may.set()
    proxy.stopping(token).join(AGES_S)
    assert proxy.behind.asked == 1
    assert proxy.is_open()


def test_without_a_token_nobody_stops_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    passed = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])

    scope = {"type": "http", "path": STOP_PATH, "headers": [(b"authorization", b"Bearer ")]}
    asyncio.run(StopWhenSent(behind)(scope, None, None))  # type: ignore[arg-type]
    assert passed == [STOP_PATH]


def test_a_proxy_that_is_gone_is_not_waited_for() -> None:
    stop_proxy("127.0.0.1", free_port(), TOKEN)
