"""A server that does not keep the conditions of a write is refused, in whichever way it fails to."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

import pytest

from infinity import storage
from infinity.storage import FileAlreadyThereError, StorageError
from infinity.storage.backends import conditions, s3
from infinity.storage.leases.lease import acquire
from tests.infinity.storage.backends.test_s3 import answers

REFUSED = (
    r"s3://bucket: the S3 server at http://127\.0\.0\.1:\d+ does not keep the condition {}.*Nothing was written.*README"
)


class Clone(BaseHTTPRequestHandler):
    """A small S3 server; the class attributes say which conditions it knows."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    knows: frozenset[str]
    says_so: bool

    def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, code: int, name: str) -> None:
        self._answer(code, f"<Error><Code>{name}</Code></Error>".encode(), **{"Content-Type": "application/xml"})

    def _data(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "STREAMING" not in self.headers.get("x-amz-content-sha256", ""):
            return data
        size, _, rest = data.partition(b"\r\n")
        return rest[: int(size.split(b";")[0], 16)]

    def do_PUT(self) -> None:
        url, data = urlparse(self.path), self._data()
        if "partNumber" in url.query:
            self._answer(200, ETag='"part"')
            return
        self._put(unquote(url.path), data)

    def _put(self, key: str, data: bytes) -> None:
        none, match = self.headers.get("If-None-Match"), self.headers.get("If-Match")
        if self.says_so and (none or match):
            self._error(501, "NotImplemented")
            return
        present = self.files.get(key)
        if "none" in self.knows and none and present is not None:
            self._error(412, "PreconditionFailed")
            return
        if "match" in self.knows and match and (present is None or match != tag(present)):
            self._error(412, "PreconditionFailed")
            return
        if "match always fails" in self.knows and match:
            self._error(412, "PreconditionFailed")
            return
        self.files[key] = data
        self._answer(200, ETag=tag(data))

    def do_POST(self) -> None:
        url = urlparse(self.path)
        self._data()
        key = unquote(url.path)
        if "uploads" in parse_qs(url.query, keep_blank_values=True):
            self._answer(200, b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
        elif "parts" in self.knows and self.headers.get("If-None-Match") and key in self.files:
            self._error(412, "PreconditionFailed")
        else:
            self.files[key] = b"joined"
            self._answer(200, b"<CompleteMultipartUploadResult/>")

    def do_GET(self) -> None:
        data = self.files.get(unquote(urlparse(self.path).path))
        if data is None:
            self._error(404, "NoSuchKey")
        else:
            self._answer(200, data, ETag=tag(data))

    def do_DELETE(self) -> None:
        self.files.pop(unquote(urlparse(self.path).path), None)
        self._answer(204)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


@pytest.fixture
def clone(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, bytes]]:
    """Starts a server that knows these conditions; what it holds."""
    servers: list[ThreadingHTTPServer] = []

    def start(*knows: str, says_so: bool = False) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        kind = type("OneClone", (Clone,), {"files": files, "knows": frozenset(knows), "says_so": says_so})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), kind))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{servers[-1].server_port}")
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"AWS_{name}", "x")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        return files

    yield start
    for server in servers:
        s3.client().close()
        server.shutdown()
        server.server_close()
    s3._client.cache_clear()


@pytest.mark.parametrize("says_so", [False, True])
def test_a_server_that_ignores_if_none_match_is_refused(clone: Callable[..., dict[str, bytes]], says_so: bool) -> None:
    files = clone("match", "parts", says_so=says_so)
    for _ in range(2):
        with pytest.raises(StorageError, match=REFUSED.format("If-None-Match: ")):
            storage.write_text("s3://bucket/a/b", "x", if_absent=True)
    with pytest.raises(StorageError, match=REFUSED.format("If-None-Match: ")):
        storage.put_once("s3://bucket/a/b", b"x")
    assert files == {}


def test_a_server_that_ignores_if_match_can_hold_no_job(clone: Callable[..., dict[str, bytes]]) -> None:
    clone("none", "parts")
    storage.write_text("s3://bucket/a/b", "x", if_absent=True)
    owner = acquire("s3://bucket/job", silence_s=3600.0)
    owner.stop()
    with pytest.raises(StorageError, match=REFUSED.format("If-Match: ")):
        owner.release(finished=False)


def test_a_server_for_which_no_tag_is_the_right_one_is_refused(clone: Callable[..., dict[str, bytes]]) -> None:
    clone("none", "match always fails")
    with pytest.raises(StorageError, match=REFUSED.format("If-Match: ")):
        s3.swap("s3://bucket/a", '"x"', b"")


def test_a_server_that_keeps_it_for_one_request_only_is_refused_for_parts(
    clone: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_MULTIPART_FROM_BYTES", 100)
    files = clone("none", "match")
    storage.write_bytes("s3://bucket/a", b"x" * 99, if_absent=True)
    with pytest.raises(StorageError, match=REFUSED.format("If-None-Match for uploads in parts: ")):
        storage.write_bytes("s3://bucket/b", b"x" * 100, if_absent=True)
    assert list(files) == ["/bucket/a"]


def test_a_good_server_is_asked_once_and_nothing_stays(clone: Callable[..., dict[str, bytes]]) -> None:
    files = clone("none", "match", "parts")
    with counted() as requests:
        for number in range(5):
            storage.write_text(f"s3://bucket/a/{number}", "x", if_absent=True)
    assert len(requests) == 5 + 3  # two for the question, one to tidy up
    with pytest.raises(FileAlreadyThereError):
        storage.write_text("s3://bucket/a/0", "x", if_absent=True)
    assert sorted(files) == [f"/bucket/a/{number}" for number in range(5)]


def test_a_question_that_gets_no_answer_is_asked_again(s3_server: str) -> None:
    conditions._kept.clear()
    with (
        answers("PutObject", lambda: (403, "AccessDenied")),
        pytest.raises(StorageError, match="refused the credentials"),
    ):
        storage.write_text(f"{s3_server}/x", "x", if_absent=True)
    storage.write_text(f"{s3_server}/x", "x", if_absent=True)
    assert storage.list_files(s3_server) == (f"{s3_server}/x",)


@contextmanager
def counted() -> Iterator[list[str]]:
    """What is sent inside of the block."""
    sent: list[str] = []

    def note(request: object, **_: object) -> None:
        sent.append(str(request))

    events = s3.client().meta.events
    events.register("before-send.s3", note)
    yield sent
    events.unregister("before-send.s3", note)
