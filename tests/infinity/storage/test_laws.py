"""What holds of every place: a path, a file URI, a bucket."""

import threading
from pathlib import Path

import pytest

from infinity import storage
from infinity.storage import FileAlreadyThereError, FileMissingError


@pytest.fixture(params=["path", "file-uri", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place."""
    if request.param == "s3":
        return storage.join(request.getfixturevalue("s3_server"), "with space")
    folder = tmp_path / "with space"
    return str(folder) if request.param == "path" else folder.as_uri()


def test_read_returns_what_was_written(root: str) -> None:
    uri = storage.join(root, "a", "b.bin")
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, start=2, length=3) == b"234"
    for start in range(11):
        assert storage.read_bytes(uri, start=start) == b"0123456789"[start:]
    assert storage.read_bytes(uri, length=4) == b"0123"
    assert storage.read_bytes(uri, start=8, length=100) == b"89"
    assert storage.read_bytes(uri, start=99, length=1) == b""
    assert (storage.local_path(uri) is None) == uri.startswith("s3://")


def test_a_draft_appears_whole_under_its_name_and_never_takes_anothers(root: str) -> None:
    for content, published in ((b"first", True), (b"second", False)):
        with storage.draft(root) as file:
            assert file.write(content[:3]) == 3
            assert file.write(content[3:]) == len(content) - 3
            assert storage.list_files(root) == (() if published else (storage.join(root, "name"),))
            assert file.publish("name") is published
    assert storage.read_bytes(storage.join(root, "name")) == b"first"
    with storage.draft(root) as file:
        file.write(b"never published")
    assert storage.list_files(root) == (storage.join(root, "name"),)
    with storage.create(storage.join(root, "whole")) as stream:
        assert stream.write(b"0123456") == 7
    assert storage.read_bytes(storage.join(root, "whole")) == b"0123456"


def test_listing_is_recursive_sorted_and_readable(root: str) -> None:
    names = ("z.txt", "a/2.txt", "a/10.txt", "ü x%20.txt")
    for relative in names:
        storage.write_text(storage.join(root, relative), relative)
    assert [storage.read_text(uri) for uri in storage.list_files(root)] == sorted(names)
    assert storage.list_files(storage.join(root, "absent")) == ()


def test_exists_knows_files_and_folders(root: str) -> None:
    assert not storage.exists(root)
    storage.write_text(storage.join(root, "a", "b"), "")
    storage.write_text(storage.join(root, "ab"), "")
    assert storage.exists(root)
    assert storage.exists(storage.join(root, "a"))
    assert storage.exists(storage.join(root, "a", "b"))
    assert not storage.exists(storage.join(root, "a", "c"))
    assert not storage.exists(storage.join(root, "b"))


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


def test_sha256_is_that_of_the_bytes(root: str) -> None:
    storage.write_bytes(storage.join(root, "x"), b"abc")
    assert storage.sha256(storage.join(root, "x")).startswith("ba7816bf8f01cfea")


def test_of_many_writers_of_an_absent_file_exactly_one_wins(root: str) -> None:
    uri, won, lost = storage.join(root, "claim"), list[int](), list[int]()
    storage.exists(uri)  # a client of S3 is made once a process, not by all threads at once
    barrier = threading.Barrier(12)

    def claim(number: int) -> None:
        barrier.wait()
        try:
            storage.write_text(uri, str(number), if_absent=True)
        except FileAlreadyThereError:
            lost.append(number)
        else:
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 11)
    assert storage.read_text(uri) == str(won[0])
    assert storage.list_files(root) == (uri,)


def test_file_written_in_pieces_appears_whole_or_not_at_all(root: str) -> None:
    uri = storage.join(root, "x")
    with storage.create(uri) as file:
        file.write(b"ab")
        assert not storage.exists(uri)
        file.write(b"c")
    assert storage.read_bytes(uri) == b"abc"
    with pytest.raises(ZeroDivisionError), storage.create(uri) as file:
        file.write(b"half" * (1 // 0))
    assert storage.read_bytes(uri) == b"abc"
    assert storage.list_files(root) == (uri,)


def test_details_change_with_the_content(root: str) -> None:
    uri = storage.join(root, "x")
    storage.write_text(uri, "a")
    (before,) = storage.list_details(root)
    storage.write_text(uri, "b")
    (after,) = storage.list_details(root)
    assert (before.uri, before.num_bytes) == (after.uri, after.num_bytes) == (uri, 1)
    assert before.version != after.version
