"""Texts are read in every encoding that office programs write, with and without a mark; UTF-8 stays UTF-8."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.data.sources.encodings import LONGEST_MARK, decoded, encoding_of

ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["image,caption\n", "{}", "a café", "猫 and a dog", ""])
def test_a_text_with_its_mark_is_read_without_it(encoding: str, text: str) -> None:
    data = ("\ufeff" + text).encode(encoding)
    assert decoded(data) == text
    assert encoding_of(data[:LONGEST_MARK]) == encoding


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_text_that_begins_in_latin_needs_no_mark(encoding: str) -> None:
    assert decoded("image,猫\n".encode(encoding)) == "image,猫\n"


@given(st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=("Cs",))))
def test_what_is_utf_8_is_read_as_that(text: str) -> None:
    assert decoded(text.encode()) == text


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xff\xfea", b"\xff\xfe\0\0abc", b"\xfe\xffx"])
def test_what_is_no_text_is_an_error_or_replaced_as_asked(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decoded(data)
    assert "\ufffd" in decoded(data, "replace")
