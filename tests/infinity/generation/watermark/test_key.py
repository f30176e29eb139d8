"""Keys of watermarks are read from files and variables, and never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infinity.generation.watermark.key import WatermarkKey, read_watermark_key, write_new_key
from infinity.storage import StorageError

SECRET = "correct horse battery staple"


def test_a_key_is_the_same_from_a_file_and_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(f"  {SECRET}\r\n")
    monkeypatch.setenv("A_KEY", f"{SECRET}\n")
    found = [read_watermark_key(str(tmp_path / "key")), read_watermark_key("env:A_KEY"), WatermarkKey(SECRET.encode())]
    assert len({key.id for key in found}) == 1


@pytest.mark.parametrize("secret", [b"", b"short", b"fifteen letters"])
def test_a_short_key_is_refused_without_being_shown(secret: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(secret)
    with pytest.raises(ValueError, match="at least 16 characters") as error:
        read_watermark_key(str(tmp_path / "key"))
    assert not secret or secret.decode() not in str(error.value).removeprefix(str(tmp_path / "key"))


def test_a_key_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ValueError, match="NO_KEY"):
        read_watermark_key("env:NO_KEY")
    with pytest.raises(StorageError, match="absent"):
        read_watermark_key(str(tmp_path / "absent"))


def test_no_text_of_a_key_shows_its_secret() -> None:
    key = WatermarkKey(SECRET.encode())
    assert not any(SECRET in text for text in (repr(key), str(key), f"{key}", key.id, repr([key])))


def test_a_new_key_is_its_owners_alone_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = write_new_key(path)
    assert read_watermark_key(str(path)) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new_key(path)
    assert read_watermark_key(str(path)) == key


def test_the_pattern_of_a_key_never_changes() -> None:
    """Pictures that were marked years ago are found by it."""
    assert WatermarkKey(b"sixteen letters.").id == "3e022888be9b"
