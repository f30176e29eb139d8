"""Quotes join lines where a cell begins with one, and no stray quote takes other rows along."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.sources.opening import open_source
from infinity.data.sources.tables import table_rows
from infinity.data.sources.tables.table_rows import quoted_rows
from tests.infinity.data.sources.test_opening import check_laws, records


def rows_in(folder: Path, text: str, delimiter: str = ",") -> list[str]:
    (folder / "t.csv").write_text(text, newline="")
    return [row.content.decode() for row in quoted_rows(str(folder / "t.csv"), 0, None, delimiter)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("caption", ['a 12" record', 'the "best" 5" disk', "it's 5' 3\"", '7"; 8"', 'x" "y'])
def test_quotes_within_a_cell_are_part_of_it(tmp_path: Path, caption: str, delimiter: str) -> None:
    lines = [f"{i}.png{delimiter}{caption}" for i in range(5)]
    assert rows_in(tmp_path, "\n".join(lines) + "\n", delimiter) == lines


@pytest.mark.parametrize("bad", ['"never closed', '"closed" too early', '"a 12" record', '"x" "y"'])
def test_a_cell_whose_quotes_do_not_match_is_one_bad_row(tmp_path: Path, bad: str) -> None:
    text = "".join(f"{i}.png\t{bad if i in (1, 4) else 'a cat'}\n" for i in range(7))
    (tmp_path / "t.tsv").write_text("file_name\ttext\n" + text)
    source = open_source(str(tmp_path / "t.tsv"), rows_per_slice=3)
    found = [record.problem.reason if record.problem else record.caption for record in records(source)]
    assert found == ["a cat", "bad_row", "a cat", "a cat", "bad_row", "a cat", "a cat"]
    check_laws(source)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.text(alphabet='ab" ,\n;', max_size=6), min_size=2, max_size=3), min_size=1, max_size=6),
    st.sampled_from(",;"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_of_csv_wrote_has_the_rows_that_it_wrote(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str, end: str
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, lineterminator=end).writerows(rows)
    found = rows_in(tmp_path_factory.mktemp("csv"), buffer.getvalue(), delimiter)
    assert [next(csv.reader([row.rstrip("\r")], delimiter=delimiter)) for row in found] == [
        [cell.replace("\r\n", "\n") for cell in row] for row in rows
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(['x","', '","', '"', "a,b", '"a', 'x"y,', '""', '"a"b', '","x', "", "long" * 9]), max_size=14
    ),
    st.integers(3, 40),
)
def test_rows_are_those_of_the_rule_read_word_by_word(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], most: int
) -> None:
    """The rule: the shortest run of lines that closes within the limit is a row, else the first line alone is."""
    quotes, wanted, rest = table_rows._Quotes(","), list[str](), list(parts)
    while rest:
        number, state, size = 1, quotes.after(rest[0][:most].encode(), is_open=False), len(rest[0]) + 1
        while state == "open" and size <= most and number < len(rest):
            state = quotes.after(rest[number][:most].encode(), is_open=True)
            size, number = size + len(rest[number]) + 1, number + 1
        number = number if state == "closed" else 1
        wanted.append("\n".join(line[:most] for line in rest[:number])[:most])
        del rest[:number]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_rows, "MAX_ROW_BYTES", most)
        found = rows_in(tmp_path_factory.mktemp("csv"), "".join(f"{part}\n" for part in parts))
    assert found == wanted


@pytest.mark.parametrize("line", ['x","', '"a', '""x"'])
def test_quotes_that_never_close_take_time_in_proportion_to_the_file(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = list[bytes]()
    after = table_rows._Quotes.after
    monkeypatch.setattr(
        table_rows._Quotes,
        "after",
        lambda self, line, *, is_open: looked_at.append(1) or after(self, line, is_open=is_open),
    )
    assert rows_in(tmp_path, f"{line}\n" * 300) == [line] * 300
    assert len(looked_at) <= 2 * 300


def test_a_row_with_too_many_cells_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file_name,text\n0.png,a cat, sitting\n1.png,a cat\n2.png\n")
    long, good, short = records(open_source(str(tmp_path / "t.csv")))
    assert "found 3; a cell that holds the separator needs quotes around it" in str(long.problem)
    assert good.caption == "a cat"
    assert str(short.problem) == "bad row: expected 2 cells, found 1"


def test_a_stray_quote_in_a_list_of_captions_takes_no_other_line_along(tmp_path: Path) -> None:
    captions = ["a bus", '"untitled , by person', "a girl", 'the "best" view', 'a 12" ruler', "the end"]
    for order in (lambda c, u: f"{c}\t{u}", lambda c, u: f"{u}\t{c}"):
        text = "".join(order(caption, f"https://example.com/{i}") + "\n" for i, caption in enumerate(captions))
        (tmp_path / "Train_GCC-training.tsv").write_text(text)
        found = [(record.caption, record.url) for record in records(open_source(str(tmp_path)))]
        assert found == [(caption, f"https://example.com/{i}") for i, caption in enumerate(captions)]
