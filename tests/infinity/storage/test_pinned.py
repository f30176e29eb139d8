"""A pinned file is the one that is meant, or an error that says how it differs."""

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from infinity.storage import StorageError, write_bytes
from infinity.storage import pinned as pinned_module
from infinity.storage.pinned import PinnedFile, PinnedFileError, git_blob_id

DATA = "schön\n".encode()
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_bytes(DATA)
    return path


def test_right_content_is_handed_over(file: Path) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    assert PinnedFile(uri=str(file)).read() == DATA
    assert PinnedFile(uri=str(file), sha256=digest, git_blob=git_blob_id(DATA)).read() == DATA
    assert PinnedFile(uri=str(file), sha256=digest[:8]).read() == DATA


def test_git_gives_the_same_name(file: Path) -> None:
    said = subprocess.run(["git", "hash-object", str(file)], capture_output=True, text=True, check=True).stdout
    assert said.strip() == git_blob_id(DATA)


def test_other_content_is_refused_with_both_checksums(file: Path) -> None:
    with pytest.raises(PinnedFileError, match=f"expected sha256 {'0' * 64}, found [0-9a-f]{{64}}; .* another one"):
        PinnedFile(uri=str(file), sha256="0" * 64).read()
    with pytest.raises(PinnedFileError, match=f"expected the git blob {'1' * 40}, found"):
        PinnedFile(uri=str(file), git_blob="1" * 40).read()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        PinnedFile(uri=str(tmp_path / "nowhere")).read()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a server that has one file, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/a/data.txt" else 404)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_web_is_asked_once(web: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pinned = PinnedFile(uri=f"{web[0]}/a/data.txt", sha256=SHA256)
    assert pinned.read() == pinned.read() == DATA
    assert web[1] == ["/a/data.txt"]


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_WEB_BYTES", len(DATA) - 1, f"more than {len(DATA) - 1} bytes"),
        ("MAX_WEB_S", -1.0, f"{len(DATA)} bytes in"),
    ],
)
def test_an_answer_that_is_too_large_or_too_slow_is_refused_in_a_sentence(
    web: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, value: float, words: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pinned_module, limit, value)
    with pytest.raises(PinnedFileError, match=f"{words}.*; fetch the file elsewhere and give its path"):
        PinnedFile(uri=f"{web[0]}/a/data.txt").read()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("uri", ["http://[::1", "http://", "https://exa mple", "http://a:99999999/x"])
def test_an_address_that_is_none_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for read in (PinnedFile(uri=uri).read, PinnedFile(uri=uri).fetch):
        with pytest.raises((PinnedFileError, StorageError)):
            read()


def test_a_large_file_is_fetched_once_and_leaves_no_draft(
    web: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address, asked = web
    for pinned in (PinnedFile(uri=f"{address}/a/data.txt"), PinnedFile(uri=f"{address}/a/data.txt", sha256=SHA256)):
        path = pinned.fetch()
        assert (path.name, path.read_bytes()) == ("data.txt", DATA)
        assert list(path.parent.iterdir()) == [path]
        assert pinned.content_digest() == SHA256
    assert asked == ["/a/data.txt"]


@pytest.mark.parametrize("wrong", [{"path": "/b"}, {"sha256": "0" * 64}, {"git_blob": "1" * 40}])
def test_a_file_that_is_not_fetched_or_not_the_one_leaves_nothing(
    wrong: dict[str, str], web: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pins = {name: value for name, value in wrong.items() if name != "path"}
    with pytest.raises(PinnedFileError, match=r"404|expected"):
        PinnedFile(uri=web[0] + wrong.get("path", "/a/data.txt"), **pins).fetch()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_local_file_is_used_where_it_lies_and_one_of_a_bucket_is_copied(
    file: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert PinnedFile(uri=str(file), sha256=SHA256).fetch() == file
    write_bytes(f"{s3_server}/b/data.txt", DATA * 3)
    path = PinnedFile(uri=f"{s3_server}/b/data.txt").fetch()
    assert path.is_relative_to(tmp_path / "cache")
    assert path.read_bytes() == DATA * 3
    with pytest.raises(PinnedFileError, match=f"expected sha256 {'0' * 64}, found {SHA256}"):
        PinnedFile(uri=str(file), sha256="0" * 64).fetch()


def test_no_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def stream(method: str, url: str, **options: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "stream", stream)
    with pytest.raises(PinnedFileError, match=r"no download \(no route\); fetch the file elsewhere"):
        PinnedFile(uri="https://example.org/data.txt").read()


@pytest.mark.parametrize("changes", [{"uri": " "}, {"uri": "http://\0"}, {"sha256": "ABC"}, {"git_blob": "12"}])
def test_ill_formed_pins_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PinnedFile(**{"uri": "x", **changes})
