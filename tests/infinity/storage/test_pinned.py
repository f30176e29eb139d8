"""A pinned file is the one that is meant, or an error that says how it differs."""

import hashlib
import subprocess
from pathlib import Path

import httpx
import pytest

from infinity.storage import StorageError
from infinity.storage.pinned import PinnedFile, PinnedFileError, git_blob_id

DATA = "schön\n".encode()


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


def test_web_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[str] = []

    def get(url: str, **options: object) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, content=DATA, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    pinned = PinnedFile(uri="https://example.org/a/data.txt", sha256=hashlib.sha256(DATA).hexdigest())
    assert pinned.read() == pinned.read() == DATA
    assert asked == ["https://example.org/a/data.txt"]


def test_no_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def get(url: str, **options: object) -> httpx.Response:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "get", get)
    with pytest.raises(PinnedFileError, match=r"no download \(no route\); fetch the file elsewhere"):
        PinnedFile(uri="https://example.org/data.txt").read()


@pytest.mark.parametrize("changes", [{"uri": " "}, {"sha256": "ABC"}, {"git_blob": "12"}])
def test_ill_formed_pins_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PinnedFile(**{"uri": "x", **changes})
