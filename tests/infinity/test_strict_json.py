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
        (b'{"a": "\xff"}', "expected UTF-8 text, found byte 0xff at offset 7"),
        (b'{"a": "\xed\xa0\x80"}', "expected UTF-8 text, found byte 0xed at offset 7"),
        (b'\xef\xbb\xbf["\xc3"]', "expected UTF-8 text, found byte 0xc3 at offset 5"),
        ('["\ud800"]', r"found \\ud800, which is half of one"),
        (b'["\\udead"]', r"found \\udead, which is half of one"),
        ('["\\ud800"]'.encode("utf-16"), r"found \\ud800, which is half of one"),
        ('["\ud800"]'.encode("utf-16", "surrogatepass"), "expected UTF-16 text, found byte 0x00 at offset 6"),
        ("\ufeff\ufeff{}", "not valid JSON"),
    ],
)
def test_what_is_beyond_all_need_is_one_sentence_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_json(text, where="the file")
    assert str(caught.value).startswith("the file: ")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_of_any_encoding_of_json_is_read_with_or_without_a_mark(encoding: str) -> None:
    text = '{"漢字": ["🎈", "\\ud83c\\udf88"]}'
    assert parse_json(text.encode(encoding), where="x") == {"漢字": ["🎈", "🎈"]}
    assert parse_json(f"\ufeff{text}", where="x") == {"漢字": ["🎈", "🎈"]}


def test_what_files_of_ours_hold_is_read_as_by_the_standard_library() -> None:
    value = {"a": [1, -(2**63), 2**64 - 1, 0.1, 1e300, True, None, "漢字 🎈"], "b": {"c": {}}, "d": []}
    deep: object = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    for each in (value, deep, [value] * 500, "text", 3):
        for ascii_only in (True, False):
            text = json.dumps(each, ensure_ascii=ascii_only)
            assert parse_json(text, where="x") == parse_json(text.encode(), where="x") == each
