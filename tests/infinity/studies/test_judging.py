"""A claim holds, does not hold, or is not told apart, by a rule that knows neither the claim nor who would like it."""

from __future__ import annotations

import math
import random

import pytest

from infinity.reporting.study import StudyRow, Verdict
from infinity.studies.judging import is_hopeless, judge_contrast, mean_and_interval, sign_test, verdict_of
from infinity.studies.study import Contrast, Study, better, same, slope


def rows(**arms: list[float]) -> list[StudyRow]:
    """One row per arm and seed, with the metric "m"."""
    return [StudyRow(arm=arm, seed=s, values={"m": x}) for arm, values in arms.items() for s, x in enumerate(values)]


@pytest.mark.parametrize(
    ("contrast", "arms", "expected"),
    [
        (better("a", "b", "m"), {"a": [3.0, 3.1, 3.2], "b": [1.0, 1.2, 1.1]}, "holds"),
        (better("b", "a", "m"), {"a": [3.0, 3.1, 3.2], "b": [1.0, 1.2, 1.1]}, "does not hold"),
        (better("a", "b", "m"), {"a": [3.0, 1.0, 2.0], "b": [1.0, 2.0, 1.9]}, "not told apart"),
        (better("a", "b", "m", lower=True), {"a": [1.0, 1.1, 1.0], "b": [2.0, 2.1, 2.2]}, "holds"),
        (better("a", "b", "m", by=5.0), {"a": [3.0, 3.1, 3.2], "b": [1.0, 1.2, 1.1]}, "does not hold"),
        (same("a", "b", "m", margin=0.5), {"a": [1.0, 1.1, 1.0], "b": [1.1, 1.0, 1.05]}, "holds"),
        (same("a", "b", "m", margin=0.5), {"a": [3.0, 3.1, 3.0], "b": [1.1, 1.0, 1.05]}, "does not hold"),
        (same("a", "b", "m", margin=0.1), {"a": [1.0, 1.2, 1.0], "b": [1.1, 1.0, 1.05]}, "not told apart"),
        (better("a", "b", "m"), {"a": [3.0, 3.0, 3.0], "b": [1.0, 1.0, 1.0]}, "not told apart"),
        (better("a", "b", "m"), {"a": [3.0], "b": [1.0]}, "not told apart"),
        (better("a", "b", "m"), {"a": [3.0, 3.1, 3.2]}, "not told apart"),
    ],
)  # fmt: skip
def test_a_contrast_is_judged_by_its_interval_alone(
    contrast: Contrast, arms: dict[str, list[float]], expected: Verdict
) -> None:
    assert judge_contrast(contrast, rows(**arms)).verdict == expected


def test_a_claim_and_its_opposite_never_hold_together() -> None:
    draw = random.Random(1)
    for _ in range(300):
        arms = {arm: [draw.gauss(draw.choice([0, 0, 1]), 1) for _ in range(3)] for arm in "ab"}
        one, other = (judge_contrast(better(*pair, "m"), rows(**arms)).verdict for pair in ("ab", "ba"))
        assert (one, other) in {("holds", "does not hold"), ("does not hold", "holds"), ("not told apart",) * 2}


def test_arms_that_do_not_differ_are_told_apart_in_about_one_of_twenty_studies() -> None:
    draw = random.Random(2)
    apart = 0
    for _ in range(2000):
        arms = {arm: [draw.gauss(0, 1) for _ in range(3)] for arm in "ab"}
        apart += judge_contrast(better("a", "b", "m"), rows(**arms)).verdict != "not told apart"
    assert 0.03 <= apart / 2000 <= 0.07


def test_a_seed_without_a_value_of_every_arm_does_not_count() -> None:
    some = [*rows(a=[3.0, 3.1, 3.2, 9.0], b=[1.0, 1.2, 1.1]), StudyRow(arm="b", seed=3, values={}, note="collapsed")]
    found = judge_contrast(better("a", "b", "m"), some)
    assert sorted(found.per_seed) == ["0", "1", "2"]
    assert found.verdict == "holds"


def test_counted_values_need_no_spread() -> None:
    counted = [StudyRow(arm=arm, seed=0, values={"m": x}) for arm, x in (("a", 8.0), ("b", 4.0), ("c", 2.0))]
    steep = slope({"a": 3.0, "b": 2.0, "c": 1.0}, "m", name="doubles", above=0.9, below=1.1, log2=True)
    found = judge_contrast(steep.replace(counted=True), counted)
    assert (found.verdict, round(found.mean or 0, 9)) == ("holds", 1.0)
    assert judge_contrast(steep, counted).verdict == "not told apart"


def test_a_slope_is_that_of_least_squares_whatever_the_places() -> None:
    draw = random.Random(3)
    for _ in range(20):
        places = {f"arm{i}": draw.uniform(-5, 5) for i in range(draw.randint(2, 7))}
        values = {arm: draw.gauss(0, 1) for arm in places}
        found = slope(places, "m", name="s", above=0.0).of(values)
        mx, my = (sum(x.values()) / len(places) for x in (places, values))
        top = sum((places[a] - mx) * (values[a] - my) for a in places)
        assert found == pytest.approx(top / sum((places[a] - mx) ** 2 for a in places))


def test_an_interval_covers_the_true_mean_in_95_of_100_cases() -> None:
    draw = random.Random(4)
    covered = 0
    for _ in range(2000):
        mean, half = mean_and_interval([draw.gauss(7, 2) for _ in range(4)])
        covered += abs(mean - 7) <= (half or 0)
    assert 0.935 <= covered / 2000 <= 0.965


def test_the_sign_test_counts_signs_only() -> None:
    assert sign_test([1.0, 100.0, 0.001], 0.0) == 0.125
    assert sign_test([-1.0, 2.0, 3.0], 0.0) == 0.5
    assert sign_test([0.0, 0.0], 0.0) == 1.0
    assert sign_test([1.0] * 10, 0.0) == pytest.approx(2**-10)


def test_one_contrast_that_does_not_hold_decides_and_all_must_hold() -> None:
    good = judge_contrast(better("a", "b", "m"), rows(a=[3.0, 3.1, 3.2], b=[1.0, 1.2, 1.1]))
    bad = judge_contrast(better("b", "a", "m"), rows(a=[3.0, 3.1, 3.2], b=[1.0, 1.2, 1.1]))
    open_ = judge_contrast(better("a", "b", "m"), [])
    assert verdict_of([good, good], []) == "holds"
    assert verdict_of([good, open_], []) == "not told apart"
    assert verdict_of([good, open_, bad], []) == "does not hold"


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        (["", "not run: the budget was spent"], "not run"),
        (["not run: the budget was spent"] * 2, "not run"),
        (["", "the training failed"], "not told apart"),
        (["not run: the budget was spent", "the training failed"], "not told apart"),
        (["", ""], "not told apart"),
    ],
)
def test_a_claim_without_a_complete_seed_was_not_run_unless_something_failed(notes: list[str], expected: str) -> None:
    found = [StudyRow(arm="a", seed=s, values={} if note else {"m": 1.0}, note=note) for s, note in enumerate(notes)]
    assert verdict_of([judge_contrast(better("a", "b", "m"), found)], found) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {}, "above": 0.0}, "at least one arm"),
        ({"weights": {"a": 1.0}}, "above or below"),
        ({"weights": {"a": 1.0}, "above": 1.0, "below": 1.0}, "above < below"),
        ({"weights": {"a": 1.0}, "above": math.nan}, "finite"),
    ],
)
def test_a_contrast_that_says_nothing_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contrast(name="c", metric="m", **fields)  # type: ignore[arg-type]


def test_only_arms_that_no_contrast_needs_are_given_up_and_only_when_clearly_worse() -> None:
    study = Study(
        name="s", number=1, title="", claim="", source="", arms=lambda *_: {}, contrasts=(better("a", "b", "m"),),
        explores=frozenset({"c", "d"}),
    )  # fmt: skip
    found = rows(a=[3.0, 3.1], b=[0.1, 0.2], c=[1.0, 1.1], d=[2.0, 3.05])
    assert "worse than a" in is_hopeless(study, "c", found)
    assert not is_hopeless(study, "d", found), "it beats the best arm's worst seed"
    assert not is_hopeless(study, "b", found), "a contrast needs it"
    assert not is_hopeless(study, "c", rows(a=[3.0], c=[1.0])), "one seed is none"
    with pytest.raises(ValueError, match="a contrast needs b"):
        Study(
            name="s", number=1, title="", claim="", source="", arms=lambda *_: {}, contrasts=(better("a", "b", "m"),),
            explores=frozenset({"b"}),
        )  # fmt: skip


def test_a_rule_names_its_arms_and_range_in_words() -> None:
    assert better("a b", "c", "loss", lower=True).rule == "loss of “c” minus that of “a b”: above 0"
    assert same("a", "b", "m", margin=0.5).rule == "m of “a” minus that of “b”: above -0.5 and below 0.5"
    found = slope({"x": 1.0, "y": 3.0}, "m", name="s", above=0.0, log2=True)
    assert found.rule == "-0.5 × “x”, +0.5 × “y” of log2 of m: above 0"


def test_a_range_with_two_ends_has_no_sign_test_and_an_open_verdict_names_the_end() -> None:
    found = judge_contrast(same("a", "b", "m", margin=0.1), rows(a=[1.0, 1.2, 1.0], b=[1.1, 1.0, 1.05]))
    assert found.sign_p is None
    assert "0.1, lies within the interval; more seeds narrow it" in found.why
    assert judge_contrast(better("a", "b", "m"), rows(a=[1.0, 2.0], b=[0.0, 0.0])).sign_p == 0.25
    below = Contrast(name="c", metric="m", weights={"a": 1.0}, below=1.5)
    assert judge_contrast(below, rows(a=[1.0, 2.0, 1.1])).sign_p == 0.5
