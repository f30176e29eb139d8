"""Every table that a command prints fits 100 columns and loses no letter, whatever its cells hold."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import infinity
from infinity.reporting.terminal.table import WIDTH, folded, table_lines
from infinity.reporting.terminal.text import escaped

ROOT = Path(infinity.__file__).parents[1]
CELLS = st.one_of(
    st.text(max_size=12),
    st.text("ab /🙂東é", max_size=300),
    st.sampled_from(["", "0.5", "s3://bucket/" + "x" * 150, "a note of many words " * 12, "+1,234", "\x1b[2J", "a\nb"]),
)


def letters(texts: list[str]) -> Counter[str]:
    return Counter("".join("".join(escaped(text).split()) for text in texts))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], list[str]]:
    number = draw(st.integers(1, 9))
    columns = [f"{draw(st.text('abc', max_size=8))}{index}" for index in range(number)]
    rows = draw(st.lists(st.lists(CELLS, min_size=number, max_size=number), max_size=4))
    return columns, rows, draw(st.lists(st.sampled_from(columns), max_size=2))


@given(tables(), st.sampled_from([40, 80, WIDTH]))
@settings(max_examples=60, deadline=None)
def test_every_line_fits_and_every_letter_is_there(
    table: tuple[list[str], list[list[str]], list[str]], width: int
) -> None:
    columns, rows, notes = table
    lines = table_lines(columns, rows, notes=notes, width=width)
    assert max(map(cell_len, lines), default=0) <= width
    shown = letters(lines)
    wanted = {cell for row in rows for cell in row}  # equal notes are printed once
    assert all(shown[letter] >= number for cell in wanted for letter, number in letters([cell]).items())
    if not notes:
        assert not letters([cell for row in rows for cell in row]) - shown


def test_a_table_that_fits_stays_a_table_with_figures_at_the_right() -> None:
    lines = table_lines(("metric", "n", "note"), [("loss", "9", "per bit"), ("psnr", "1,024", "")], notes=("note",))
    assert lines == ["metric      n  note", "loss        9  per bit", "psnr    1,024"]


def test_notes_that_do_not_fit_stand_below_each_once() -> None:
    note, protocol = "measured on half of the pictures; " * 4, "scenes/1: " + "rules " * 12
    rows = [("a", "0.5", protocol, note), ("b", "0.25", protocol, ""), ("c", "1", "", note)]
    lines = table_lines(("metric", "value", "protocol", "note"), rows, notes=("protocol", "note"))
    assert lines[:4] == ["metric  value  notes", "a         0.5  [1][2]", "b        0.25  [1]", "c           1  [2]"]
    assert lines[4].startswith("[1] scenes/1: rules")
    assert "\n".join(lines).count("measured on half") == 4


def test_long_cells_are_folded_between_words_before_figures_are() -> None:
    lines = table_lines(("model", "value"), [("word " * 40, "0.125"), ("s3://" + "y" * 200, "2 dB")])
    assert all("0.12" not in line or line.endswith("0.125") for line in lines)
    assert lines[1].startswith("word word")


def test_too_many_columns_become_lists() -> None:
    columns = [f"column {index}" for index in range(12)]
    lines = table_lines(columns, [["twelve letters"] * 12] * 2)
    assert lines[0] == "column 0: twelve letters"
    assert lines.count("") == 1


@pytest.mark.parametrize(("columns", "rows", "width"), [(("a", "b"), [("1",)], 100), (("a",), [], 39)])
def test_a_table_that_cannot_be_is_refused(columns: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        table_lines(columns, rows, width=width)


def test_words_longer_than_a_line_are_cut_anywhere() -> None:
    assert folded("ab " + "c" * 9, 4, " ") == ["ab", " ccc", " ccc", " ccc"]


@pytest.mark.parametrize("room", ["infinity", "flows", "infra"])
def test_no_command_has_another_printer_of_tables(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [node for node in imports if node.module == "rich.table"], path
