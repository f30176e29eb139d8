"""A real HTTP server on this machine that answers as badly as servers on the web do."""

import contextlib
import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.infinity.data.builders import encoded, noise

HOST = "pictures.test"
"""A name that only our look-up knows."""

BOMB = gzip.compress(bytes(20 * 2**20), 9)


@dataclass
class Site:
    """Paths and what they answer; how often and when each was asked."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, Callable[["Handler"], None]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str, host: str = HOST) -> str:
        return f"http://{host}:{self.port}{path}"

    def counts(self) -> Counter[str]:
        return Counter(self.asked)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the console."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        with self.site.lock:
            self.site.asked.append(self.path)
            self.site.times.setdefault(path, []).append(time.monotonic())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.site.answers[path](self)

    def reply(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | given).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def picture(seed: int = 0) -> bytes:
    return encoded(noise(seed=seed))


def plain(seed: int = 0, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(picture(seed), **headers)


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(b"no", code, **headers)


def redirect(target: str, code: int = 302) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(b"", code, Location=target)


def first_then(times: int, first: Callable[[Handler], None], then: Callable[[Handler], None]) -> Callable[..., None]:
    """``first`` for so many requests, ``then`` afterwards."""

    def answer(handler: Handler) -> None:
        path = handler.path.partition("?")[0]
        (first if len(handler.site.times[path]) <= times else then)(handler)

    return answer


def slow_loris(handler: Handler) -> None:
    """A byte now and then for twenty minutes, or until the client hangs up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(24_000):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(bytes(2**16))
    handler.close_connection = True


def endless_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(200_000):
        handler.wfile.write(b"X-%d: %s\r\n" % (number, b"y" * 1000))
    handler.close_connection = True


def short(handler: Handler) -> None:
    handler.reply(picture()[:100], Content_Length=str(len(picture())))
    handler.close_connection = True


def announced(handler: Handler) -> None:
    handler.reply(b"x", Content_Length=str(10**12))
    handler.close_connection = True


def gzip_bomb(handler: Handler) -> None:
    handler.reply(BOMB, Content_Encoding="gzip")


def packed(handler: Handler) -> None:
    handler.reply(gzip.compress(picture()), Content_Encoding="gzip")


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


@contextmanager
def serving(answers: dict[str, Callable[[Handler], None]]) -> Iterator[Site]:
    """A server with these answers on a free port of 127.0.0.1."""
    site = Site(answers=answers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def canary() -> Iterator[tuple[int, list[str]]]:
    """A server that must never be asked: its port, and whatever it was asked."""
    with serving({}) as site:
        yield site.port, site.asked


async def lookup(host: str, port: int) -> list[str]:
    """Our server for its name, a documentation address for no other."""
    if host == HOST:
        return ["127.0.0.1"]
    raise OSError(-2, "Name or service not known")
