"""A JSON file of ours comes back as it was written; a damaged one is named with what to do."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from infinity.config import Config, ConfigError
from infinity.storage import FileMissingError
from infinity.storage.json_files import read_config, read_json, read_object


@dataclass(frozen=True, kw_only=True, slots=True)
class Cup(Config):
    colour: str
    price: float = 1.0


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    file, cup = tmp_path / "cup.json", Cup(colour="grün", price=2.5)
    file.write_text(cup.dump(), encoding="utf-8")
    assert read_config(str(file), Cup, remedy="restore it") == cup
    assert read_object(str(file), remedy="restore it") == cup.to_json()
    file.write_text('["a", 1]')
    assert read_json(str(file), remedy="restore it") == ["a", 1]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1]", b'{"colour": 3}', b'{"colour": "red", "size": 3}'])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cup.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"^[^\n]*cup\.json[^\n]*; restore it$") as caught:
        read_config(str(tmp_path / "cup.json"), Cup, remedy="restore it")
    assert str(caught.value).count("restore it") == 1


@pytest.mark.parametrize("data", [b"[1]", b"null", b"3", b'"text"'])
def test_what_is_no_object_is_refused_where_one_is_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cup.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"cup\.json: expected a JSON object, found .*; restore it$"):
        read_object(str(tmp_path / "cup.json"), remedy="restore it")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        read_json(str(tmp_path / "cup.json"), remedy="restore it")
