"""Invisible marks are removed and counted; captions that describe nothing are dropped for their reason."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infinity.data.curation.decisions import decide
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import CaptionFilters, FilterConfig
from infinity.data.sources.samples import Record
from tests.fixtures.data.facts_builder import facts_of
from tests.fixtures.data.pictures_on_disk import encoded, noise


@pytest.mark.parametrize(
    ("caption", "clean"),
    [
        ("\ufeffa cat", "a cat"),
        ("a\u200b cat", "a cat"),
        ("a cat\u200e", "a cat"),
        ("soft\u00adware", "software"),
        ("\u202aa cat\u202c", "a cat"),
        ("a\x07 cat\x1b", "a cat"),
        ("a \x9b cat", "a cat"),
        ("\u2060a cat", "a cat"),
        ("\u061cقطة حمراء", "قطة حمراء"),
        ("\u2067חתול אדום\u2069", "חתול אדום"),
        ("a\ufffc cat", "a cat"),
        ("a cat\u3164", "a cat"),
        ("a\u2800cat\u2800", "a cat"),
        ("a c\u034fat", "a cat"),
        ("\u1160a cat\u115f", "a cat"),
        ("\u115f\u1160a cat", "a cat"),
        ("a cat\U000e0041\U000e0042", "a cat"),
    ],
)
def test_marks_that_nobody_sees_are_removed_and_counted(caption: str, clean: str) -> None:
    row = {"caption": caption, "caption_long": caption, "caption_short": "x y"}
    decisions = decide(facts_of([row, {}]), FilterConfig())
    first = decisions.kept.to_pylist()[0]
    assert (first["caption"], first["caption_long"], first["caption_short"]) == (clean, clean, "x y")
    assert sum(decisions.cleaned.values()) == 1
    assert decisions.kept.schema == facts_of([{}]).schema


def test_further_captions_are_cleaned_as_well() -> None:
    class Slice:
        first_row = 0

        def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
            further = ("\ufeffa dog", "a dog", "a cat\u200b", "\x07", "a\0b", "two dogs")
            yield Record(row=0, name="x", image=encoded(noise()), caption="a cat", further=further)

    facts = measure_slice(Slice(), 10**6).facts
    assert json.loads(facts["further"][0].as_py()) == ["a dog", "two dogs"]


@pytest.mark.parametrize(
    "caption",
    [
        "a cat",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f flag",
        "❤\ufe0f🔥",
        "👩\u200d🚀 in space",
        "می\u200cخواهم",
        "ก\u0e34น",
        "e\u0301tude",
        "猫",
        "\u1112\u1160\u11ab",
        "\u115f\u1161",
        "\u115f\u1160\u11ab",
    ],
)
def test_what_belongs_to_a_text_stays(caption: str) -> None:
    decisions = decide(facts_of([{"caption": caption}]), FilterConfig())
    assert decisions.kept["caption"].to_pylist() == [caption]
    assert decisions.cleaned == {}


NONSENSE: dict[str, list[str]] = {
    "placeholder": ["nan", "NaN", "None", "N/A", "untitled", "---", "???", "[removed]", "image", "{caption}"],
    "file_name": [
        *["IMG_2034.JPG", "DSC00012.jpeg", "holiday-photo.png", "IMG_20240101_120000", "a_b.webp", "猫.jpg"],
        *["WhatsApp Image 2023-01-05 at 10.11.12 AM.jpeg", "WhatsApp Image 2023-01-05 at 10.11.12"],
        *["FB_IMG_1500000000123", "received_1234567890123", "12345678_1234567890_987654321_n"],
        *["photo_2023-01-05_10-11-12", "20230105_101112", "Screen Shot 2023-01-05 at 9.11.12 PM.png"],
        *["IMG_2034 (1).jpg", "DSC00012 copy", "IMG-20230105-WA0003"],
    ],
    "entities": ["cats &amp; dogs", "caf&#233; table", "a&nbsp;house", "&#x27;quoted&#x27;"],
    "markup": ["<b>a cat</b>", 'see <a href="x">here</a>', "line<br/>break"],
}
MEANING = [
    "a cat",
    "an image of nan bread",
    "R&D lab; a desk",
    "a < b and c > d",
    "photo of img 3 on a wall",
    "5 & 6",
    "猫",
    "received 12 letters",
    "20230105",
    "WhatsApp image of a cat",
    "screen shot of a game",
]


@pytest.mark.parametrize("kind", NONSENSE)
def test_captions_that_describe_nothing_are_dropped_where_that_is_asked(kind: Any) -> None:
    rows = [{"caption": text} for text in [*NONSENSE[kind], *MEANING]]
    asked = decide(facts_of(rows), FilterConfig(captions=CaptionFilters(rejects=(kind,))))
    assert asked.tally.dropped == {f"caption_{kind}": len(NONSENSE[kind])}
    assert asked.kept["caption"].to_pylist() == MEANING
    assert decide(facts_of(rows), FilterConfig()).kept.num_rows == len(rows)


def test_filters_that_ask_for_nothing_new_keep_their_json() -> None:
    assert "rejects" not in FilterConfig().to_json()["captions"]
    assert "rejects" in FilterConfig(captions=CaptionFilters(rejects=("markup",))).to_json()["captions"]
    changed = FilterConfig(captions=CaptionFilters(rejects=("markup",)))
    assert FilterConfig.from_json(changed.to_json()) == changed
