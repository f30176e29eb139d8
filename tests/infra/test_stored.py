"""Small files of the state folder are read strictly."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.stored import read_json, read_word, record_of


@dataclass(frozen=True)
class Lamp:
    name: str
    watts: int
    is_on: bool = False


@pytest.mark.parametrize("fields", [{"name": "a", "watts": 5}, {"name": "", "watts": 0, "is_on": True}])
def test_a_record_that_was_written_comes_back(fields: dict[str, object]) -> None:
    assert record_of(Lamp, fields, "x") == Lamp(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "x: expected an object with name, watts, is_on"),
        ({"name": "a"}, "x: expected all fields of Lamp .*'watts'"),
        ({"name": "a", "watts": "5"}, "x: expected watts to be int, found 'watts' with '5'"),
        ({"name": "a", "watts": True}, "x: expected watts to be int"),
        ({"name": "a", "watts": 5, "is_on": 1}, "x: expected is_on to be bool"),
        ({"name": None, "watts": 5}, "x: expected name to be str"),
        ({"name": "a", "watts": 5, "hue": 1}, "x: expected one of name, watts, is_on, found 'hue'"),
    ],
)
def test_another_record_is_named_with_what_is_wrong(found: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record_of(Lamp, found, "x")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\x00", b"[" * 100_000, b'{"a": "\xff"}'])
def test_what_is_no_json_is_named_by_its_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.json: expected JSON"):
        read_json(tmp_path / "a.json")


def test_a_word_stands_alone_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "word").write_bytes(" grün \n".encode())
    assert read_word(tmp_path / "word") == "grün"
    (tmp_path / "word").write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"word: expected UTF-8 text, found byte 0xff at offset 2; restore"):
        read_word(tmp_path / "word")
