"""Laws and errors of files on this machine."""

import os
import resource
import signal
from pathlib import Path

import pytest

from infinity import storage
from infinity.storage import StorageError


def test_failed_write_keeps_the_old_content_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "x.txt")
    storage.write_text(uri, "old")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match=r"cannot write .*x\.txt: no space left on the disk"):
        storage.write_text(uri, "new")
    monkeypatch.undo()
    assert storage.read_text(uri) == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_write_beyond_the_allowed_file_size_is_a_clear_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageError, match="larger than this disk or process may write"):
            storage.write_bytes(str(tmp_path / "x"), b"0" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_a_file_is_written_in_pieces_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left"), storage.create(str(tmp_path / "x")):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".x.txt.0123.part").write_bytes(b"half")
    assert storage.list_files(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("absent.txt", "there is no such file"),
        (".", "it is a folder, not a file"),
        ("file.txt/x", "a part of the path is a file"),
        ("nul\0byte", "cannot hold these characters"),
        ("x" * 300, "the name is too long"),
    ],
)
def test_unreadable_path_is_a_clear_error(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "file.txt").write_bytes(b"\xff")
    with pytest.raises(StorageError, match=message):
        storage.read_bytes(f"{tmp_path}/{uri}")


def test_text_that_is_not_utf8_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"ab\xff")
    with pytest.raises(StorageError, match="expected UTF-8 text, found byte 0xff at offset 2"):
        storage.read_text(str(tmp_path / "x"))


def test_unknown_scheme_is_a_clear_error() -> None:
    with pytest.raises(StorageError, match="found the scheme 'gs'"):
        storage.exists("gs://bucket/x")


def test_parts_join_with_one_slash() -> None:
    assert storage.join("s3://b/", "/x/", "y") == "s3://b/x/y"
    assert storage.join("/", "x") == "/x"
    assert storage.join("a", "") == "a"
    assert storage.name("s3://b/x/") == "x"
    assert storage.name("x") == "x"
    assert storage.parent("s3://b/x") == "s3://b"
    assert storage.parent("x") == "."
    assert storage.absolute("s3://b/x") == "s3://b/x"
    assert storage.absolute("x") == os.path.join(os.getcwd(), "x")
