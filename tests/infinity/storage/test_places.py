"""A text that names nothing is no place, and what is written replaces files only."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infinity import storage
from infinity.storage import StorageError

CALLS: dict[str, Callable[[str], Any]] = {
    "join": lambda uri: storage.join(uri, "a"),
    "absolute": storage.absolute,
    "exists": storage.exists,
    "read": storage.read_bytes,
    "size": storage.size,
    "list": storage.list_files,
    "delete": storage.delete_tree,
    "write": lambda uri: storage.write_bytes(uri, b"x"),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_empty_text_is_not_the_working_directory(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"expected a path, file://... or s3://bucket/key, found ''"):
        CALLS[call]("")
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("uri", ["s3://", "S3://", "s3:///", "http://"])
def test_a_scheme_alone_is_no_folder(uri: str) -> None:
    with pytest.raises(StorageError, match=f"found '{uri}'"):
        storage.join(uri, "a")


@pytest.mark.parametrize("uri", ["/", ".", "..", "a", "a/", "file:///", "file:///a", "s3://b", "s3://b/k", " ", "~"])
def test_whatever_names_something_can_be_joined(uri: str) -> None:
    assert storage.join(uri, "x").endswith("/x")
    assert storage.name(storage.join(uri, "x")) == "x"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


@pytest.mark.parametrize("make", [pipe, unix_socket])
@pytest.mark.parametrize("write", ["write_bytes", "create"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, make: Callable[[Path], None], write: str) -> None:
    """As root a rename would put a file in the place of /dev/null."""
    path = tmp_path / "odd"
    make(path)
    before = path.lstat()
    with pytest.raises(StorageError, match=r"odd: expected a file, found a pipe, a socket or a device"):  # noqa: PT012
        if write == "create":
            with storage.create(str(path)) as file:
                file.write(b"x")
        else:
            storage.write_bytes(str(path), b"x")
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert [each.name for each in tmp_path.iterdir()] == ["odd"], "the draft is gone"
