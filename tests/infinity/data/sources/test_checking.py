"""Fetching a picture blames the right one for what goes wrong; counts add up in any grouping."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources import checking
from infinity.data.sources.checking import EXAMPLES, Tally, fetch, printable
from infinity.data.sources.samples import Record
from infinity.storage import StorageError
from tests.fixtures.data.pictures_on_disk import encoded, huge_png, image_folder, noise


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


@settings(max_examples=50)
@given(tallies, tallies, tallies)
def test_tallies_add_up_in_any_grouping(a: Tally, b: Tally, c: Tally) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + Tally.of() == Tally.of() + a == a


@given(st.text())
def test_printable_text_can_be_written_and_keeps_what_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text


@pytest.mark.parametrize(
    "key", ["x" * 1025, "a\0b", "a\ud800", "a\nb", "..", "../../x", "a/../../b", "é" * 600, "", "%00", "x?y#z", "a//b"]
)
def test_no_key_that_a_row_names_ends_a_job(s3_server: str, key: str) -> None:
    with pytest.raises(UnreadableError, match="missing file"):
        fetch(Record(row=0, name="x", image=f"{s3_server}/{key}"))
