"""Formulas of the public scripts, replayed by hand: Soft-TIFA, DSG, TIFA, TIIF and UniGenBench++."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gmean

from infinity.evaluation.judge.questions import JudgeQuestion
from infinity.evaluation.judge.scoring import Pools, after_dependencies, picture_score


def ask(number: int, **fields: object) -> list[JudgeQuestion]:
    return [JudgeQuestion(text=f"question {place}?", **fields) for place in range(number)]  # type: ignore[arg-type]


def test_soft_tifa_is_that_of_the_public_script_to_the_last_digit() -> None:
    random = np.random.default_rng(0)
    for number in range(1, 15):
        scores = random.uniform(1e-6, 1, number).tolist()
        total = 0.0
        for score in scores:
            total += score
        assert picture_score(ask(number), scores, "arithmetic") == total / number
        assert picture_score(ask(number), scores, "geometric") == float(gmean(scores))


@pytest.mark.parametrize(
    ("scores", "arithmetic", "geometric"),
    [
        ([0.5, 0.5], 0.5, 0.5), ([0.25, 1.0], 0.625, 0.5), ([0.0, 1.0, 1.0], 2 / 3, 0.0),
        ([0.125, 0.5, 1.0], 1.625 / 3, 0.0625 ** (1 / 3)), ([1.0] * 10, 1.0, 1.0),
    ],
)  # fmt: skip
def test_means_of_hand_made_cases(scores: list[float], arithmetic: float, geometric: float) -> None:
    assert picture_score(ask(len(scores)), scores, "arithmetic") == pytest.approx(arithmetic, rel=1e-15)
    assert picture_score(ask(len(scores)), scores, "geometric") == pytest.approx(geometric, rel=1e-15)


def test_weights_count_a_question_several_times() -> None:
    heavy = [JudgeQuestion(text="a?", weight=3.0), JudgeQuestion(text="b?")]
    for mean in ("arithmetic", "geometric"):
        assert picture_score(heavy, [0.3, 0.8], mean) == pytest.approx(
            picture_score(ask(4), [0.3, 0.3, 0.3, 0.8], mean)
        )  # type: ignore[arg-type]


def test_a_question_counts_only_where_its_parents_are_right() -> None:
    """A chain 0, 1, 2 and a question 3 with two parents; the public script looks at raw scores of direct parents."""
    chain = [
        JudgeQuestion(text="0?"), JudgeQuestion(text="1?", parents=(0,)), JudgeQuestion(text="2?", parents=(1,)),
        JudgeQuestion(text="3?", parents=(0, 2)),
    ]  # fmt: skip
    cases = {
        (1, 1, 1, 1): (1, 1, 1, 1), (0, 1, 1, 1): (0, 0, 1, 0), (1, 0, 1, 1): (1, 0, 0, 1), (1, 1, 0, 1): (1, 1, 0, 0),
        (0, 0, 0, 1): (0, 0, 0, 0),
    }  # fmt: skip
    for raw, expected in cases.items():
        assert after_dependencies(chain, [float(score) for score in raw]) == [float(score) for score in expected]


def pooled() -> Pools:
    """Three prompts of hand-made scores in groups a and b (dimension x) and c (dimension y)."""
    pools = Pools({"a": "x", "b": "x", "c": "y"})
    groups = [("a", "b"), ("a", "a", "c"), ("c",)]
    scores = [[[1.0, 0.0]], [[1.0, 0.0, 1.0]], [[0.0], [1.0]]]
    for names, pictures in zip(groups, scores, strict=True):
        pools.add([JudgeQuestion(text="q?", group=name) for name in names], pictures)
    return pools


def test_groups_and_dimensions_pool_answers_over_prompts_and_pictures() -> None:
    pools = pooled()
    assert pools.group("a")[:2] == (2 / 3, 3)
    assert pools.group("b")[:2] == (0.0, 1)
    assert pools.group("c")[:2] == (2 / 3, 3)
    assert pools.dimension("x")[:2] == (0.5, 4)
    # UniGenBench++ pools a dimension; TIIF takes the mean of its types.
    assert pools.overall(pooled=True)[0] == pytest.approx((0.5 + 2 / 3) / 2)
    assert pools.overall(pooled=False)[0] == pytest.approx(((2 / 3 + 0) / 2 + 2 / 3) / 2)


def test_the_interval_covers_the_truth_of_correlated_answers() -> None:
    """Prompts whose answers are right or wrong together: the interval must resample prompts, not answers."""
    random, covered, trials = np.random.default_rng(1), 0, 50
    for _ in range(trials):
        pools = Pools({"a": "x", "b": "y"})
        for _ in range(60):
            right = float(random.random() < 0.6)
            pools.add([JudgeQuestion(text="q?", group=name) for name in "aabb"], [[right] * 4])
        _, interval = pools.overall(pooled=True)
        assert interval is not None
        covered += interval[0] <= 0.6 <= interval[1]
    assert covered >= 0.86 * trials


def test_figures_that_agree_everywhere_have_no_interval() -> None:
    pools = Pools({"a": "x"})
    for _ in range(5):
        pools.add(ask(2, group="a"), [[1.0, 1.0]])
    assert pools.overall(pooled=True) == (1.0, None)
