"""Win rates, Elo and agreement of hand-made choices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infinity.evaluation.rating.votes import (
    RatedPair,
    RaterFile,
    Vote,
    elo,
    rater_agreement,
    scorer_agreement,
    votes_of,
    win_rate,
)


def pair(number: int, left: str = "a", right: str = "b") -> RatedPair:
    return RatedPair(id=f"p{number}", prompt=f"prompt {number}", item=str(number), left=left, right=right)


def test_win_rates_count_ties_half_and_do_not_depend_on_the_side() -> None:
    votes = [
        Vote(pair(0), "x", 1.0),
        Vote(pair(1, "b", "a"), "x", 1.0),
        Vote(pair(2), "x", 0.5),
        Vote(pair(3), "x", 1.0),
    ]
    assert win_rate(votes, "a", "b").value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert win_rate(votes, "b", "a").value == pytest.approx(1 - 2.5 / 4)
    with pytest.raises(ValueError, match="a and c were never compared"):
        win_rate(votes, "a", "c")


def test_elo_of_two_models_is_the_log_of_their_odds() -> None:
    votes = [Vote(pair(number), "x", float(number % 4 != 0)) for number in range(400)]
    found = elo(votes, ["a", "b"])
    assert found["a"].value - found["b"].value == pytest.approx(400 * math.log10(300.5 / 100.5), abs=1e-6)
    assert (found["a"].value + found["b"].value) / 2 == pytest.approx(1000)
    assert found["a"].low is not None
    assert found["b"].high is not None
    assert found["b"].high < found["a"].low, "clearly different"


def test_a_model_that_never_loses_has_a_finite_elo() -> None:
    found = elo([Vote(pair(number), "x", 1.0) for number in range(9)], ["a", "b"])
    assert found["a"].value - found["b"].value == pytest.approx(400 * math.log10(9.5 / 0.5), abs=1e-6)


def test_elo_orders_models_that_never_met() -> None:
    votes = [Vote(pair(n), "x", float(n % 3 != 0)) for n in range(60)]
    votes += [Vote(pair(n, "b", "c"), "x", float(n % 3 != 0)) for n in range(60)]
    found = elo(votes, ["a", "b", "c"])
    assert found["a"].value > found["b"].value > found["c"].value
    assert found["a"].value - found["b"].value == pytest.approx(found["b"].value - found["c"].value, rel=1e-6)


def test_intervals_resample_prompts_and_not_choices() -> None:
    """Ten raters who agree on every prompt are no more evidence than one."""
    random = np.random.default_rng(0)
    outcomes = [float(random.random() < 0.5) for _ in range(40)]
    one = win_rate([Vote(pair(n), "x", value) for n, value in enumerate(outcomes)], "a", "b")
    ten = win_rate([Vote(pair(n), f"r{r}", value) for r in range(10) for n, value in enumerate(outcomes)], "a", "b")
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))


def test_agreement_of_raters_by_hand() -> None:
    first, second = (1.0, 1.0, 0.0, 0.5), (1.0, 0.0, 0.0, 0.5)
    votes = [Vote(pair(n), "x", value) for n, value in enumerate(first)]
    assert rater_agreement(votes) is None
    votes += [Vote(pair(n), "y", value) for n, value in enumerate(second)]
    found = rater_agreement(votes)
    assert found is not None
    share, kappa = found
    chance = 1 / 4 * 2 / 4 + 1 / 4 * 1 / 4 + 2 / 4 * 1 / 4
    assert (share.value, share.n) == (0.75, 4)
    assert kappa == pytest.approx((0.75 - chance) / (1 - chance))


def test_agreement_with_a_scorer_leaves_ties_and_equal_scores_out() -> None:
    votes = [Vote(pair(0), "x", 1.0), Vote(pair(1), "x", 0.0), Vote(pair(2), "x", 0.5), Vote(pair(3), "x", 1.0)]
    values = {"a": {"0": 0.9, "1": 0.8, "2": 0.9, "3": 0.5}, "b": {"0": 0.1, "1": 0.2, "2": 0.1, "3": 0.5}}
    found = scorer_agreement(votes, values)
    assert found is not None
    assert (found.value, found.n) == (0.5, 2)
    lower = scorer_agreement(votes[:1], values, -1.0)
    assert lower is not None
    assert lower.value == 0
    assert scorer_agreement(votes[2:], values) is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([RaterFile(study="s2", rater="x", choices={})], "expected choices of the study s1, found those of s2"),
        ([RaterFile(study="s1", rater="x", choices={"zz": "left"})], "the pair 'zz' is not in the study"),
        ([RaterFile(study="s1", rater="x", choices={"p0": "left"})] * 2, "the rater 'x' is in"),
        ([RaterFile(study="s1", rater="x", choices={})], "at least one rater"),
    ],
)
def test_files_that_do_not_belong_are_refused(files: list[RaterFile], words: str) -> None:
    with pytest.raises(ValueError, match=r".*") as error:
        votes_of([pair(0)], "s1", [(f"{number}.json", file) for number, file in enumerate(files)])
    assert words in str(error.value)


def test_a_choice_that_is_none_is_refused_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"x\.json.*choices"):
        RaterFile.parse('{"study": "s", "rater": "x", "choices": {"p0": "middle"}}', where="x.json")


@pytest.mark.parametrize("again", ["ann", " ann", "Ann"])
def test_no_choice_counts_twice_also_where_one_file_is_named_twice(again: str) -> None:
    files = [RaterFile(study="s1", rater=name, choices={"p0": "left"}) for name in ("ann", again)]
    with pytest.raises(ValueError, match=r"a\.json: the rater '.*' is in a\.json too; expected one file per rater"):
        votes_of([pair(0)], "s1", [("a.json", file) for file in files])
