"""Captions of visits: short or long, in whole sentences, the same for whoever asks."""

import json
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_rows import FULL_SCHEMA, SCHEMA
from infinity.data.loading.captions import CaptionConfig, CaptionDraw, sentences
from tests.infinity.data.dataset.test_manifest import manifest

LONG = "A red cube lies on a table. Behind it stands a lamp! Is it on? Nobody knows."


def draw(config: CaptionConfig, long: str | None = LONG, short: str | None = "a cube", tokens: int = 99) -> CaptionDraw:
    m = manifest("m")
    rows = [{**row, "caption_long": long, "caption_short": short} for row in m.table.to_pylist()]
    whole = Manifest(uri=m.uri, head=m.head, table=pa.Table.from_pylist(rows, schema=SCHEMA))
    return CaptionDraw(whole, config, 5, lambda text: len(text.split()) + 1, tokens)


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


def test_sentences_end_where_people_end_them() -> None:
    assert sentences(LONG) == [
        "A red cube lies on a table. ", "Behind it stands a lamp! ", "Is it on? ", "Nobody knows.",
    ]  # fmt: skip
    assert len(sentences("Dr. Smith holds a 4.5 cm coin, e.g. a dime. It shines.")) == 2
    assert len(sentences('He says "Stop." Then he goes... Away.')) == 3
    assert sentences("一只猫。一只狗！") == ["一只猫。", "一只狗！"]
    assert sentences("no end") == ["no end"]
    assert sentences("") == [""]


def test_the_chosen_caption_is_the_default() -> None:
    assert draw(CaptionConfig())((3, 0), (0, 7)) == ["caption 3", "caption 0"]


def test_short_captions_come_with_their_probability() -> None:
    captions = draw(CaptionConfig(short_probability=0.5))
    counts = Counter(captions((2,) * 1000, tuple(range(1000))))
    assert set(counts) == {LONG, "a cube"}
    assert 430 < counts["a cube"] < 570
    assert draw(CaptionConfig(short_probability=1.0))((1,), (4,)) == ["a cube"]
    assert draw(CaptionConfig(short_probability=0.0))((1,), (4,)) == [LONG]
    assert draw(CaptionConfig(short_probability=0.5), short=None)((1,), (4,)) == ["caption 1"]


def test_long_captions_are_cut_to_whole_sentences() -> None:
    captions = draw(CaptionConfig(short_probability=0.0, cut_probability=1.0))
    parts = sentences(LONG)
    counts = Counter(captions((2,) * 1000, tuple(range(1000))))
    assert set(counts) == {"".join(parts[:n]).rstrip() for n in (1, 2, 3, 4)}
    assert min(counts.values()) > 200


@pytest.mark.parametrize("tokens", [0, 3, 8, 9, 12, 13, 14, 16, 17, 18, 60])
def test_no_caption_breaks_off_in_the_middle(tokens: int) -> None:
    (text,) = draw(CaptionConfig(short_probability=0.0, fit_tokens=True), tokens=tokens)((1,), (0,))
    parts = sentences(LONG)
    fitting = [n for n in range(1, 5) if len("".join(parts[:n]).split()) + 1 <= tokens]
    assert text == "".join(parts[: max(fitting, default=1)]).rstrip()


def test_further_captions_come_as_often_as_the_first_and_resume_exactly() -> None:
    m = manifest("m")
    rows = [{**row, "further": json.dumps(["second", "third"])} for row in m.table.to_pylist()]
    whole = Manifest(uri=m.uri, head=m.head, table=pa.Table.from_pylist(rows, schema=FULL_SCHEMA))
    captions = CaptionDraw(whole, CaptionConfig(), 5, len, 99)
    drawn = captions((2,) * 1500, tuple(range(1500)))
    counts = Counter(drawn)
    assert set(counts) == set(captions.possible(2)) == {"caption 2", "second", "third"}
    assert min(counts.values()) > 430
    assert [captions((2,), (visit,))[0] for visit in range(50)] == drawn[:50]


def test_a_draw_belongs_to_row_and_visit_alone() -> None:
    captions = draw(CaptionConfig(short_probability=0.5, cut_probability=0.5))
    together = captions((0, 1, 2, 3), (0, 0, 1, 5))
    assert [captions((row,), (visit,))[0] for row, visit in ((0, 0), (1, 0), (2, 1), (3, 5))] == together


@pytest.mark.parametrize("short", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("cut", [0.0, 0.5, 1.0])
def test_what_may_be_drawn_is_what_is_drawn(short: float | None, cut: float) -> None:
    captions = draw(CaptionConfig(short_probability=short, cut_probability=cut, fit_tokens=True), tokens=14)
    assert set(captions((2,) * 200, tuple(range(200)))) == set(captions.possible(2))


def test_impossible_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"short_probability: expected 0 to 1 or None, got 1\.5"):
        CaptionConfig(short_probability=1.5)
