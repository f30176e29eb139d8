"""Laws and errors of files on this machine."""

import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from infinity import storage
from infinity.storage import FileAlreadyThereError, FileMissingError, StorageError


@pytest.fixture(params=["path", "file-uri"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = tmp_path / "with space"
    return str(folder) if request.param == "path" else folder.as_uri()


def test_read_returns_what_was_written(root: str) -> None:
    uri = storage.join(root, "a", "b.bin")
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, start=2, length=3) == b"234"
    assert storage.read_bytes(uri, start=8) == b"89"
    assert storage.read_bytes(uri, start=8, length=100) == b"89"
    assert storage.read_bytes(uri, start=99, length=1) == b""


def test_listing_is_recursive_sorted_and_readable(root: str) -> None:
    for relative in ("z.txt", "a/2.txt", "a/10.txt", "ü x%20.txt"):
        storage.write_text(storage.join(root, relative), relative)
    files = storage.list_files(root)
    assert [storage.read_text(uri) for uri in files] == sorted(["z.txt", "a/2.txt", "a/10.txt", "ü x%20.txt"])
    assert storage.list_files(storage.join(root, "absent")) == ()


def test_exists_knows_files_and_folders(root: str) -> None:
    assert not storage.exists(root)
    storage.write_text(storage.join(root, "a", "b"), "")
    assert storage.exists(storage.join(root, "a"))
    assert storage.exists(storage.join(root, "a", "b"))
    assert not storage.exists(storage.join(root, "a", "c"))


def test_deleting_a_tree_twice_is_no_error(root: str) -> None:
    storage.write_text(storage.join(root, "a", "b"), "")
    storage.delete_tree(root)
    storage.delete_tree(root)
    assert not storage.exists(root)


def test_folders_copy_there_and_back(tmp_path: Path, root: str) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "x y.bin").write_bytes(b"1")
    storage.upload_folder(tmp_path / "in", root)
    storage.download_folder(root, tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "x y.bin").read_bytes() == b"1"
    with pytest.raises(FileMissingError, match="found no files"):
        storage.download_folder(storage.join(root, "absent"), tmp_path / "out")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "x"), b"abc")
    assert storage.sha256(str(tmp_path / "x")).startswith("ba7816bf8f01cfea")


def test_of_many_writers_of_an_absent_file_exactly_one_wins(tmp_path: Path) -> None:
    uri, won, lost = str(tmp_path / "claim"), [], []
    barrier = threading.Barrier(16)

    def claim(number: int) -> None:
        barrier.wait()
        try:
            storage.write_text(uri, str(number), if_absent=True)
        except FileAlreadyThereError:
            lost.append(number)
        else:
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 15)
    assert storage.read_text(uri) == str(won[0])
    assert storage.list_files(str(tmp_path)) == (uri,)


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


def test_file_written_in_pieces_appears_whole_or_not_at_all(root: str) -> None:
    uri = storage.join(root, "x")
    with storage.create(uri) as file:
        file.write(b"ab")
        assert not storage.exists(uri)
        file.write(b"c")
    assert storage.read_bytes(uri) == b"abc"
    with pytest.raises(ZeroDivisionError), storage.create(uri) as file:
        file.write(b"half" * (1 // 0))
    with pytest.raises(StorageError, match="no space left"), storage.create(uri) as file:
        raise OSError(28, "No space left on device")
    assert storage.read_bytes(uri) == b"abc"
    assert storage.list_files(root) == (uri,)


def test_details_change_with_the_content(tmp_path: Path) -> None:
    uri = str(tmp_path / "x")
    storage.write_text(uri, "a")
    (before,) = storage.list_details(str(tmp_path))
    storage.write_text(uri, "b")
    (after,) = storage.list_details(str(tmp_path))
    assert (before.uri, before.num_bytes) == (after.uri, after.num_bytes) == (uri, 1)
    assert before.version != after.version


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
    assert storage.parent("s3://b/x") == "s3://b"
    assert storage.parent("x") == "."
    assert storage.absolute("s3://b/x") == "s3://b/x"
    assert storage.absolute("x") == os.path.join(os.getcwd(), "x")
