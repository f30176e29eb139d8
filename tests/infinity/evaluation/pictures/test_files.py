"""Which files are pictures, and digests that follow names and contents alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infinity import storage
from infinity.evaluation.pictures.files import content_digest, digest_of_files, endings, is_decoded, is_picture


def infos(folder: Path) -> list[tuple[str, storage.FileInfo]]:
    start = len(str(folder)) + 1
    return [(info.uri[start:], info) for info in storage.list_details(str(folder))]


def write(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.png").write_text(content)
    return folder


@pytest.mark.parametrize("name", ["a.png", "deep/folder/B.JPG", "x.jfif", "two.dots.webp", "ünï.tiff"])
def test_these_are_pictures(name: str) -> None:
    assert is_picture(name)


@pytest.mark.parametrize("name", ["a.txt", "png", "a.png.txt", ".hidden.png", "folder/._a.png", "a.", "a.jsonl", ""])
def test_these_are_not(name: str) -> None:
    assert not is_picture(name)


def test_endings_are_lower_case_with_a_dot_and_pillow_decodes_them() -> None:
    assert {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tiff"} <= endings()
    assert all(ending.startswith(".") and ending == ending.lower() for ending in endings())


def test_a_digest_is_the_same_in_any_order_and_at_any_time(tmp_path: Path) -> None:
    found = infos(write(tmp_path / "a", one="1", two="2"))
    digest = digest_of_files(found)
    assert digest == digest_of_files(reversed(found))
    os.utime(tmp_path / "a" / "one.png", (1, 1))
    assert digest == digest_of_files(infos(tmp_path / "a"))
    assert digest == digest_of_files(infos(write(tmp_path / "b", two="2", one="1")))


def test_a_digest_changes_with_a_name_a_content_a_swap_and_a_further_file(tmp_path: Path) -> None:
    folders = {
        "as it was": write(tmp_path / "a", one="1", two="2"),
        "other name": write(tmp_path / "b", one="1", three="2"),
        "other content": write(tmp_path / "c", one="1", two="3"),
        "swapped": write(tmp_path / "d", one="2", two="1"),
        "one more": write(tmp_path / "e", one="1", two="2", three="3"),
        "nothing": write(tmp_path / "f"),
    }
    assert len({digest_of_files(infos(folder)) for folder in folders.values()}) == len(folders)


def test_a_file_in_a_bucket_is_known_by_what_the_bucket_says_of_it(s3_server: str) -> None:
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"22")):
        storage.write_bytes(f"{s3_server}/{name}.png", data)
    a, b, c = (content_digest(info) for info in storage.list_details(s3_server))
    assert a == b != c
    assert a.startswith("etag ")
    assert a.endswith(" 1")


@pytest.mark.parametrize("name", ["a.heic", "IMG_1.HEIF", "a.hif", "deep/a.jxl", "a.JXL"])
def test_pictures_that_pillow_does_not_decode_are_pictures_all_the_same(name: str) -> None:
    assert is_picture(name)
    assert not is_decoded(name)
    assert is_decoded("a.png")
    assert is_decoded("no ending")
