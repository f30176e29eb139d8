"""Texts are read from a script's syntax tree: nothing runs, and what is no text is left out or refused."""

from __future__ import annotations

import pytest

from infinity.perception.script_texts import assigned_literals


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("A = 'x' 'y'", {"A": "xy"}),
        ("A: str = 'x'\nB: str", {"A": "x"}),
        ("A = B = 'x'", {"A": "x", "B": "x"}),
        ("A = 'x' + 'y'", {"A": "xy"}),
        ("A = 'x'\nA = open('y')", {}),
        ("A = {'a': {'b': 'c'}, 1: 'd', **E, 'f': print}", {"A": {"a": {"b": "c"}}}),
        ("A = C\nC = 'x'", {"C": "x"}),
        ("def f():\n    A = 'x'", {}),
        ("A = f'{1}'", {}),
        ("A, B = 'x', 'y'", {}),
        ("A = '\\d'", {"A": "\\d"}),
        ("", {}),
    ],
)
def test_only_plain_texts_of_the_top_level_are_read(source: str, expected: dict[str, object]) -> None:
    assert assigned_literals(source.encode(), "file.py") == expected


@pytest.mark.parametrize(
    "source", [b"<html>", b"A = '", b"\x00", b"\xff\xfe\x00", b"A = " + b"(" * 500 + b")" * 500, b"#" * (2**20 + 1)]
)
def test_what_is_no_script_is_refused_with_the_files_name(source: bytes) -> None:
    with pytest.raises(ValueError, match=r"^file\.py: expected a"):
        assigned_literals(source, "file.py")


def test_texts_that_double_themselves_do_not_grow_without_end() -> None:
    lines = ["A0 = 'xxxxxxxx'", *[f"A{n + 1} = A{n} + A{n}" for n in range(100)]]
    found = assigned_literals("\n".join(lines).encode(), "file.py")
    assert max(map(len, found.values())) <= 2**20
    assert len(found) < 30
