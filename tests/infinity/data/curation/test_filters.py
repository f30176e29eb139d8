"""Settings are checked when they are made, and captions are cleaned before anything is counted."""

import pytest

from infinity.data.curation.filters import CaptionFilters, Decontamination, FilterConfig, ScoreRule, clean_caption
from infinity.data.dedup.config import NearDuplicates


def test_cleaning_makes_one_line_of_composed_characters() -> None:
    assert clean_caption("  two\r\n lines\tand\u00a0a  cafe\u0301 ") == "two lines and a caf\u00e9"
    assert clean_caption(None) == ""


@pytest.mark.parametrize(
    "config",
    [
        {"min_side_px": 0},
        {"min_caption_chars": 0},
        {"max_elongation": 0.5},
        {"max_pixels": 10**9},
        {"min_contrast": -1.0},
        {"min_pixels": -1},
    ],
)
def test_impossible_setting_is_a_clear_error(config: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        FilterConfig(**config)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [{"min_words": 0}, {"min_letters": 1.5}, {"min_english": -0.1}])
def test_impossible_caption_setting_is_a_clear_error(config: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        CaptionFilters(**config)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"distance": -1}, {"distance": 21}, {"difference": -0.1}])
def test_impossible_near_duplicates_are_a_clear_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        NearDuplicates(**wrong)  # type: ignore[arg-type]


def test_the_ends_of_what_is_possible_are_possible() -> None:
    assert (NearDuplicates(distance=0).distance, NearDuplicates(distance=20).distance) == (0, 20)
    assert FilterConfig(min_side_px=1, min_caption_chars=1, max_elongation=1.0).min_side_px == 1
    assert CaptionFilters(min_words=1, min_letters=1.0).min_words == 1
    assert Decontamination(ngram=2, containment=1.0).ngram == 2
    for wrong in ({"ngram": 1}, {"containment": 0.0}, {"containment": 1.01}):
        with pytest.raises(ValueError, match=r"expected .* got"):
            Decontamination(**wrong)  # type: ignore[arg-type]


def test_every_rule_has_a_reason_of_its_own_and_settings_survive_json() -> None:
    config = FilterConfig(captions=CaptionFilters(min_words=2, min_script=0.5))
    reasons = [rule.reason for rule in config.rules()]
    assert len(set(reasons)) == len(reasons)
    assert FilterConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("minimum", "maximum", "is_on"), [(None, None, False), (0.0, None, True), (None, 0.0, True), (0.1, 0.9, True)]
)
def test_a_rule_is_on_with_either_limit(minimum: float | None, maximum: float | None, is_on: bool) -> None:
    assert ScoreRule(reason="dull", score="warmth", minimum=minimum, maximum=maximum).is_on == is_on


def test_flat_pictures_are_left_out_where_nothing_is_said() -> None:
    assert FilterConfig().min_contrast == 1.0
