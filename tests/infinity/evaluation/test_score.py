"""Scores say what they are, and intervals behave."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.config import ConfigError
from infinity.evaluation.score import Score, wilson_interval


def test_score_survives_json() -> None:
    score = Score.share("scene_geneval.counting", 31, 80, protocol="scene-geneval/1", note="4 pictures a prompt")
    assert Score.parse(score.dump()) == score
    assert score.value == pytest.approx(0.3875)


def test_unmeasured_score_keeps_its_reason_and_has_no_value() -> None:
    score = Score.not_measured("fid", "", protocol="fid/1", reason="no Inception weights given")
    assert score.value is None
    assert score.note == "not measured: no Inception weights given"
    assert Score.parse(score.dump()) == score


def test_a_resampled_score_says_where_its_interval_comes_from() -> None:
    known = Score.resampled("a.b", 0.5, "share", 7, (0.25, 0.75), protocol="p", note="a part")
    assert (known.low, known.high, known.note) == (0.25, 0.75, "a part; interval from resampling prompts")
    unknown = Score.resampled("a.b", 0.5, "share", 7, None, protocol="p", note="")
    assert (unknown.low, unknown.high, unknown.note) == (None, None, "")


def test_share_of_nothing_is_not_measured() -> None:
    assert Score.share("a.b", 0, 0, protocol="p").value is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "Scene GenEval"}, "lower-case words"),
        ({"value": math.nan}, "finite"),
        ({"value": None}, "needs a note"),
        ({"low": 0.1}, "both ends"),
        ({"n": -1}, "at least 0"),
    ],
)
def test_ill_formed_scores_are_refused(changes: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"metric": "a.b", "value": 0.5, "unit": "share", "n": 3, "protocol": "p"}
    with pytest.raises(ValueError, match=message):
        Score.from_json(good | changes)


def test_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        Score.from_json({"metric": "a", "value": 1.0, "unit": "", "n": 1, "protocol": "p", "digits": 3})


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_in_range(counts: tuple[int, int]) -> None:
    correct, n = counts
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1


def test_wilson_interval_agrees_with_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81/263 and 15/148.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_interval_of_an_impossible_share_is_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)
