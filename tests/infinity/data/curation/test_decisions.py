"""Every row has exactly one fate, for the first reason that applies, whatever the order of the facts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.curation.caption_scores import caption_scores
from infinity.data.curation.decisions import Decisions, MissingScoreError, decide
from infinity.data.curation.filters import CaptionFilters, FilterConfig, ModelFilters, ScoreRule
from tests.fixtures.data.facts_builder import facts_of


def fate(filters: FilterConfig | None = None, **row: Any) -> str | None:
    """The reason why one picture is dropped."""
    decisions = decide(facts_of([row]), filters or FilterConfig())
    return decisions.dropped["reason"].to_pylist()[0] if decisions.dropped.num_rows else None


def test_good_picture_is_kept() -> None:
    assert fate() is None


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "caption_missing"),
        ("a\0cat", "caption_control_characters"),
        ("a \x07 bell", None),
        ("\x9b", "caption_missing"),
        ("\ufeff\u200b", "caption_missing"),
        ("\u200bx", "caption_too_short"),
        ("x", "caption_too_short"),
        ("ox", None),
    ],
)
def test_missing_damaged_and_short_captions_are_dropped(caption: str, reason: str | None) -> None:
    assert fate(caption=caption) == reason


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("一只橘猫坐在窗台上望着外面的雨", 6),
        ("窓辺に座るオレンジ色の猫", 5),
        ("แมวส้มนั่งอยู่ริมหน้าต่าง", 4),
        ("ແມວນັ່ງຢູ່ປ່ອງຢ້ຽມ", 3),
        ("ឆ្មាមួយអង្គុយនៅលើបង្អួច", 4),
        ("ကြောင်တစ်ကောင်ထိုင်နေသည်", 4),
        ("a cat 一只橘猫坐在", 4),
    ],
)
def test_scripts_without_blanks_have_words(caption: str, words: int) -> None:
    """About as many as a reader of the language would count."""
    captions = CaptionFilters(min_words=words)
    assert fate(FilterConfig(captions=captions), caption=caption) is None
    captions = CaptionFilters(min_words=3 * words + 2)
    assert fate(FilterConfig(captions=captions), caption=caption) == "caption_few_words"


@pytest.mark.parametrize("caption", ["猫", "犬", "𠮷"])
def test_one_ideograph_is_a_caption(caption: str) -> None:
    assert fate(caption=caption) is None
    assert fate(caption="x") == "caption_too_short"


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a cat sits", 3),
        ("it's 4.5 cm", 5),
        ("кошка на окне", 3),
        ("창가에 앉아 있는 고양이", 4),
        ("قطة على النافذة", 3),
    ],
)
def test_scripts_with_blanks_are_counted_as_before(caption: str, words: int) -> None:
    assert caption_scores([caption], "LATIN")["caption_words"].tolist() == [words]
    assert caption_scores([caption], "LATIN")["caption_chars"].tolist() == [len(caption)]


@pytest.mark.parametrize(
    ("caption", "words"),
    [("लाल कार सड़क पर खड़ी है", 6), ("শহরের উপর লাল সূর্য", 4), ("சிவப்பு கார்", 2), ("מְדִינָה", 1), ("cafe\u0301 bleu", 2)],
)
def test_marks_belong_to_their_letters(caption: str, words: int) -> None:
    scores = caption_scores([caption], "LATIN")
    found = [scores[name].tolist() for name in ("caption_words", "caption_letters", "caption_word_repeats")]
    assert found == [[words], [1.0], [0.0]]


@pytest.mark.parametrize(
    ("setting", "caption", "reason"),
    [
        ({"max_chars": 5}, "a tall cat", "caption_too_long"),
        ({"min_words": 3}, "a cat", "caption_few_words"),
        ({"max_words": 2}, "a tall cat", "caption_many_words"),
        ({"min_letters": 0.5}, "IMG_20200101_123456.jpg", "caption_few_letters"),
        ({"max_char_run": 5}, "wowwwwwww a cat", "caption_repeats_character"),
        ({"max_word_repeats": 0.3}, "sale sale sale sale today", "caption_repeats_word"),
        ({"min_script": 0.5}, "кошка на окне", "caption_script"),
        ({"min_english": 0.1}, "cat kitten stock photo hd wallpaper", "caption_language"),
        ({"min_english": 0.1}, "eine Katze sitzt auf dem Fenster", "caption_language"),
    ],
)
def test_caption_rules_drop_what_they_name_and_keep_a_plain_sentence(
    setting: dict[str, Any], caption: str, reason: str
) -> None:
    filters = FilterConfig(captions=CaptionFilters(**setting))
    assert fate(filters, caption=caption) == reason
    assert fate(caption=caption) is None
    if "max_chars" not in setting and "max_words" not in setting:
        assert fate(filters, caption="a black cat sits on the sill of a window in the morning sun") is None


@pytest.mark.parametrize(
    ("row", "setting", "reason"),
    [
        ({"width_px": 23}, {}, "small_side"),
        ({"height_px": 23}, {}, "small_side"),
        ({"width_px": 60}, {"min_pixels": 4000}, "few_pixels"),
        ({"width_px": 351, "height_px": 100}, {}, "aspect_ratio"),
        ({"width_px": 100, "height_px": 351}, {}, "aspect_ratio"),
        ({"contrast": 0.5}, {}, "blank"),
        ({"sharpness": 4.0}, {"min_sharpness": 5.0}, "blurred"),
    ],
)
def test_picture_rules_drop_what_they_name(row: dict[str, Any], setting: dict[str, Any], reason: str) -> None:
    assert fate(FilterConfig(**setting), **row) == reason
    lenient = {
        "min_side_px": 1,
        "max_elongation": 9.0,
        "min_contrast": None,
        "min_pixels": None,
        "min_sharpness": None,
    }
    assert fate(FilterConfig(**lenient), **row) is None


def test_scores_of_models_are_judged_by_name() -> None:
    table = facts_of([{}, {}, {}], aesthetic=[4.0, 5.0, 6.0], watermark=[0.0, 0.9, 0.0])
    filters = FilterConfig(models=ModelFilters(min_aesthetic=5.0, max_watermark=0.5))
    decisions = decide(table, filters)
    assert decisions.dropped["reason"].to_pylist() == ["low_aesthetic", "watermark"]
    assert decisions.dropped["detail"].to_pylist() == ["aesthetic 4", "watermark 0.9"]


def test_missing_score_is_an_error_and_not_a_pass() -> None:
    filters = FilterConfig(models=ModelFilters(max_nsfw=0.5))
    with pytest.raises(MissingScoreError, match="score nsfw, which no model has written"):
        decide(facts_of([{}]), filters)
    with pytest.raises(MissingScoreError, match=r"nsfw, which 1 of 2 pictures do not have, for example 1\.png"):
        decide(facts_of([{}, {}], nsfw=[0.1, None]), filters)
    with pytest.raises(MissingScoreError, match="nsfw"):
        decide(facts_of([{}, {}], nsfw=[0.1, float("nan")]), filters)


def test_unreadable_pictures_need_no_score() -> None:
    bad = {"problem": "truncated", "detail": "cut", "width_px": None, "height_px": None, "phash": None}
    filters = FilterConfig(models=ModelFilters(max_nsfw=0.5))
    decisions = decide(facts_of([{}, bad], nsfw=[0.1, None]), filters)
    assert decisions.dropped["reason"].to_pylist() == ["unreadable_truncated"]
    assert decisions.tally.unreadable == {"truncated": 1}
    assert decisions.tally.examples["unreadable_truncated"] == ("1.png: truncated, cut",)


def test_all_rules_are_listed_with_setting_and_count() -> None:
    decisions = decide(facts_of([{"contrast": 0.0}, {}]), FilterConfig(min_contrast=2.5))
    listed = {rule.reason: (rule.setting, rule.dropped) for rule in decisions.rules}
    assert listed["blank"] == ("contrast at least 2.5", 1)
    assert listed["blurred"] == ("off", 0)
    assert listed["duplicate"] == ("picture", 0)
    assert {rule.reason for rule in FilterConfig().rules()} < set(listed)


def test_a_row_that_breaks_many_rules_is_dropped_once_for_the_first() -> None:
    """One picture that breaks four rules, one that breaks the last two of them, and a copy of each."""
    worst = {"width_px": 10, "contrast": 0.0, "sharpness": 0.0, "caption": "x", "pixels": bytes(32)}
    flat = {"contrast": 0.0, "sharpness": 0.0, "pixels": b"1" * 32}
    filters = FilterConfig(min_sharpness=5.0)
    decisions = decide(facts_of([worst, flat, worst, flat, {}]), filters)
    reasons = decisions.dropped["reason"].to_pylist()
    assert reasons == ["caption_too_short", "blank", "caption_too_short", "blank"]
    assert decisions.dropped["row"].to_pylist() == [0, 1, 2, 3]
    counts = {"caption_too_short": 2, "blank": 2}
    assert decisions.tally.dropped == counts
    assert {rule.reason: rule.dropped for rule in decisions.rules if rule.dropped} == counts
    assert decisions.kept["row"].to_pylist() == [4]


def test_a_row_that_breaks_several_rules_is_dropped_once_for_the_first_one() -> None:
    """Order of the rules: captions, sizes, contrast, duplicates."""
    everything = {"caption": "x", "width_px": 10, "contrast": 0.0, "pixels": bytes(32)}
    later = {"width_px": 10, "contrast": 0.0, "pixels": bytes(32)}
    decisions = decide(facts_of([everything, later, {"contrast": 0.0}, {}]), FilterConfig())
    assert decisions.dropped["row"].to_pylist() == [0, 1, 2]
    assert decisions.dropped["reason"].to_pylist() == ["caption_too_short", "small_side", "blank"]
    assert decisions.dropped["detail"].to_pylist() == ["caption_chars 1", "side_px 10", "contrast 0"]
    counts = {rule.reason: rule.dropped for rule in decisions.rules if rule.dropped}
    assert counts == {"caption_too_short": 1, "small_side": 1, "blank": 1}
    assert decisions.tally.dropped == counts


rows = st.lists(
    st.fixed_dictionaries(
        {
            "width_px": st.sampled_from([10, 64, 500]),
            "caption": st.sampled_from(["", "x", "a cat", "a dog\0", "a cow"]),
            "pixels": st.sampled_from([bytes([n]) * 32 for n in range(4)]),
            "contrast": st.sampled_from([0.0, 9.0]),
            "problem": st.sampled_from([None, None, "truncated"]),
        }
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_every_rule_counts_rows_of_its_own(cases: list[dict[str, Any]]) -> None:
    decisions = decide(facts_of(cases), FilterConfig(min_pixels=2000))
    numbers = decisions.dropped["row"].to_pylist()
    assert len(numbers) == len(set(numbers))
    assert sorted(numbers + decisions.kept["row"].to_pylist()) == list(range(len(cases)))
    assert sum(rule.dropped for rule in decisions.rules) == sum(decisions.tally.dropped.values())
    for rule in decisions.rules:
        assert rule.dropped == decisions.tally.dropped.get(rule.reason, 0)


def fates(decisions: Decisions) -> list[tuple[Any, ...]]:
    return sorted(zip(decisions.dropped["row"].to_pylist(), decisions.dropped["reason"].to_pylist(), strict=True))


@settings(max_examples=30)
@given(rows, st.randoms(use_true_random=False))
def test_each_row_has_one_fate_whatever_the_order(cases: list[dict[str, Any]], random: Any) -> None:
    table = facts_of(cases)
    decisions = decide(table, FilterConfig())
    together = decisions.kept["row"].to_pylist() + decisions.dropped["row"].to_pylist()
    assert sorted(together) == list(range(len(cases)))
    tally = decisions.tally
    assert tally.read == decisions.kept.num_rows + sum(tally.dropped.values()) + sum(tally.unreadable.values())
    assert sum(rule.dropped for rule in decisions.rules) == sum(tally.dropped.values())
    assert all(sum(each.counts) == len(cases) - sum(tally.unreadable.values()) for each in decisions.histograms)
    order = list(range(len(cases)))
    random.shuffle(order)
    shuffled = decide(table.take(pa.array(order, pa.int64())), FilterConfig())
    assert shuffled.kept.equals(decisions.kept)
    assert fates(shuffled) == fates(decisions)


def test_histograms_of_parts_add_up() -> None:
    table = facts_of([{"contrast": float(value)} for value in np.linspace(0, 200, 37)])
    parts = [decide(table.slice(start, 10), FilterConfig()).histograms for start in range(0, 37, 10)]
    whole = decide(table, FilterConfig()).histograms
    assert tuple(sum(column[1:], column[0]) for column in zip(*parts, strict=True)) == whole


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnFilters(FilterConfig):
    """The filters and a rule on a score of a user's own."""

    min_warmth: float | None = None

    def rules(self) -> tuple[ScoreRule, ...]:
        own = ScoreRule(reason="cold", score="warmth", minimum=self.min_warmth, score_range=(0.0, 10.0))
        return (*FilterConfig.rules(self), own)


def test_a_rule_on_a_score_of_ones_own_is_judged_last_counted_and_drawn() -> None:
    table = facts_of([{}, {"caption": ""}, {}], warmth=[1.0, 2.0, 7.0])
    decisions = decide(table, OwnFilters(min_warmth=5.0))
    assert decisions.dropped["reason"].to_pylist() == ["cold", "caption_missing"]
    (histogram,) = (each for each in decisions.histograms if each.score == "warmth")
    assert (histogram.edges[0], histogram.edges[-1], sum(histogram.counts)) == (0.0, 10.0, 3)
    assert decide(table, OwnFilters()).kept.num_rows == 2
    with pytest.raises(MissingScoreError, match="score warmth, which no model has written"):
        decide(facts_of([{}]), OwnFilters(min_warmth=5.0))
