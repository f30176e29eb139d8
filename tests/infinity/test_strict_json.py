"""JSON from anywhere is read within bounds, and says what is wrong in one sentence."""

import json

import pytest

from infinity.strict_json import MAX_DEPTH, ConfigError, parse_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "at most 100 brackets"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "at most 100 brackets"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "at most 100 brackets"),
        ("1" + "0" * 400, "whole numbers of at most 64 bits, found one of 401 characters"),
        ("1" * 5000, "whole numbers of at most 64 bits"),
        (str(2**64), "whole numbers of at most 64 bits"),
        ("-" + str(2**64), "whole numbers of at most 64 bits"),
        ("1e999", "numbers below 1.8e308"),
        ("-1e400", "numbers below 1.8e308"),
        ("[NaN]", "found NaN"),
        ('{"x": -Infinity}', "found -Infinity"),
        ('{"x": 1, "y": {"z": 1, "z": 2}}', "the key 'z' stands twice"),
        (r'"\ud800"', r"found \\ud800, which is half of one"),
        (r'{"\uDFFF": 1}', "half of one"),
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
    ],
)
def test_what_is_beyond_all_need_is_one_sentence_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_json(text, where="the file")
    assert str(caught.value).startswith("the file: ")
    assert len(str(caught.value)) < 250


def test_what_files_of_ours_hold_is_read_as_by_the_standard_library() -> None:
    value = {"a": [1, -(2**63), 2**64 - 1, 0.1, 1e300, True, None, "漢字 🎈"], "b": {"c": {}}, "d": []}
    deep: object = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    for each in (value, deep, [value] * 500, "text", 3):
        for ascii_only in (True, False):
            text = json.dumps(each, ensure_ascii=ascii_only)
            assert parse_json(text, where="x") == parse_json(text.encode(), where="x") == each
