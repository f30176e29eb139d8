"""The list of bad ends in docs/operations.md: what a page is said to say, it says, and a test shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fixtures.documents import REPOSITORY, tables

PAGE = REPOSITORY / "docs" / "operations.md"
ROOMS = ("infinity", "flows", "infra")


def rows() -> list[list[str]]:
    """Rows of the list, without its head."""
    found = [cells for _, cells in tables(PAGE.read_text(encoding="utf-8"))]
    begin = next(number for number, cells in enumerate(found) if cells[0] == "the page says")
    return [cells for cells in found[begin + 2 :] if cells[-1].startswith("`tests/")]


def texts(path: Path) -> str:
    """Source of a Python file, with texts on lines that follow one another joined."""
    return re.sub(r'"\n\s*f?"', "", path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def said() -> str:
    return "\n".join(texts(path) for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py")))


def test_every_sentence_of_the_list_is_one_of_ours(said: str) -> None:
    words = [(row[0], part) for row in rows() for part in re.findall(r"`([^`]+)`", row[0])]
    assert len(words) >= 25
    assert not [row for row, part in words if part not in said]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].strip("`"))
def test_every_bad_end_has_a_cause_a_next_step_and_a_test(row: list[str]) -> None:
    _, cause, what_to_do, test = row
    assert cause
    assert what_to_do
    assert "def test_" in (REPOSITORY / test.strip("`")).read_text(encoding="utf-8")


def test_no_bad_end_is_told_twice() -> None:
    sentences = [row[0] for row in rows()]
    assert len(set(sentences)) == len(sentences)
