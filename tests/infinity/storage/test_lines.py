"""Lines are what line feeds end, and what is wrong in one is named by its number."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.storage.lines import json_lines, json_objects, text_lines


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"))), st.sampled_from(["\n", "\r\n"]))
def test_lines_are_those_that_were_written(texts: list[str], end: str) -> None:
    """Also where they hold U+2028, form feeds and other characters at which ``splitlines`` splits."""
    data = "".join(text + end for text in texts).encode()
    expected = [(f"x, line {number}", text) for number, text in enumerate(texts, start=1)]
    assert list(text_lines(b"\xef\xbb\xbf" + data, "x")) == expected


def test_the_last_line_needs_no_end_and_blank_lines_hold_no_json() -> None:
    data = '\n{"a": "two\u2028rows"}\r\n  \n[1]'.encode()
    expected = [("x, line 2", {"a": "two\u2028rows"}), ("x, line 4", [1])]
    assert list(json_lines(data, "x", skips_blank=True)) == expected
    assert list(json_lines(b"[1]\n \n\n", "x")) == [("x, line 1", [1])]
    assert list(json_lines(b"", "x")) == []


@pytest.mark.parametrize(
    ("read", "data", "message"),
    [
        (text_lines, b"ab\xff", "x: expected UTF-8, found byte 0xff at offset 2"),
        (json_lines, b"1\n{oops\n", r"x, line 2: not valid JSON \(.*\): '{oops'"),
        (json_lines, b"[" * 100_000, "x, line 1: expected at most 100 brackets"),
        (json_lines, b"1\n \n2\n", "x, line 2: expected JSON, found an empty line before others"),
        (json_objects, b'{}\n{}\n["a"]\n', r'x, line 3: expected a JSON object, found \["a"\]'),
    ],
)
def test_what_is_wrong_is_named_by_its_place(read: Callable[[bytes, str], object], data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(read(data, "x"))  # type: ignore[call-overload]
