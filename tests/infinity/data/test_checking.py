"""The first pass: every record is counted once, and what is wrong with the place is not blamed on the pictures."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data import checking
from infinity.data.checking import EXAMPLES, Tally, check_slice, fetch, printable
from infinity.data.decoding import UnreadableError
from infinity.data.filters import FilterConfig
from infinity.data.samples import Record
from infinity.data.sources import open_source
from infinity.storage import StorageError
from tests.infinity.data.builders import encoded, huge_png, image_folder, noise


def bad_folder(folder: Path) -> Path:
    """One good picture and one of every kind of trouble."""
    jpeg = encoded(noise(64, 64), "JPEG")
    pictures = {
        "good.png": encoded(noise()),
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "corrupt.png": encoded(noise())[:60] + b"\xff" * 40 + encoded(noise())[100:],
        "huge.png": huge_png(),
        "text.jpg": b"This is a text file.",
        "empty.png": b"",
        "nul.png": encoded(noise(seed=1)),
        "uncaptioned.png": encoded(noise(seed=2)),
        "short.png": encoded(noise(seed=3)),
        "small.png": encoded(noise(16, 16)),
        "long.png": encoded(noise(32, 200)),
    }
    captions = {"nul.png": "a\0b", "short.png": "x", "uncaptioned.png": None}
    rows = [
        {"file_name": name, "text": captions.get(name, f"the {name}")}
        for name in [*pictures, "missing.png", "nul\0.png"]
    ]
    return image_folder(folder, pictures, rows)


def test_every_kind_of_trouble_is_counted_under_its_reason(tmp_path: Path) -> None:
    (piece,) = open_source(str(bad_folder(tmp_path))).slices
    checked = check_slice(piece, FilterConfig())
    tally = checked.tally
    assert checked.candidates["name"].to_pylist() == ["good.png"]
    assert tally.read == 13
    assert tally.dropped == {
        "aspect_ratio": 1,
        "caption_control_characters": 1,
        "caption_missing": 1,
        "caption_too_short": 1,
        "small_side": 1,
    }
    assert tally.unreadable == {
        "corrupt": 1,
        "empty_file": 1,
        "missing_file": 1,
        "not_a_picture": 1,
        "not_accessible": 1,
        "too_many_pixels": 1,
        "truncated": 1,
    }
    assert tally.read == checked.candidates.num_rows + sum(tally.dropped.values()) + sum(tally.unreadable.values())
    assert tally.examples["unreadable_not_a_picture"] == ("text.jpg: not_a_picture, begins with b'This is a text f'",)
    assert all("\0" not in example for examples in tally.examples.values() for example in examples)


def test_huge_picture_costs_no_memory(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"huge.png": huge_png()}, [{"file_name": "huge.png", "text": "huge"}])
    (piece,) = open_source(str(folder)).slices
    tracemalloc.start()
    try:
        assert check_slice(piece, FilterConfig()).tally.unreadable == {"too_many_pixels": 1}
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_huge_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "MAX_FILE_BYTES", 100)
    (tmp_path / "x.png").write_bytes(bytes(101))
    with pytest.raises(UnreadableError) as caught:
        fetch(Record(row=0, name="x.png", image=str(tmp_path / "x.png")))
    assert caught.value.reason == "file_too_large"


def test_missing_object_is_unreadable_but_missing_bucket_is_an_error(s3_server: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        fetch(Record(row=0, name="x", image=f"{s3_server}/x.png"))
    assert caught.value.reason == "missing_file"
    with pytest.raises(StorageError, match="there is no bucket"):
        fetch(Record(row=0, name="x", image="s3://no-such-bucket/x.png"))


tallies = st.builds(
    Tally,
    read=st.integers(0, 9),
    dropped=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)),
    unreadable=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)),
    examples=st.dictionaries(st.sampled_from("ab"), st.lists(st.text(max_size=2), max_size=EXAMPLES).map(tuple)),
)


@settings(max_examples=50, deadline=None)
@given(tallies, tallies, tallies)
def test_tallies_add_up_in_any_grouping(a: Tally, b: Tally, c: Tally) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + Tally.of() == Tally.of() + a == a


@settings(deadline=None)
@given(st.text())
def test_printable_text_can_be_written_and_keeps_what_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text
