"""A candidate against its family: the present champion and the best of each metric must both be met."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.promotion.contest import Compare, contest
from infinity.evaluation.promotion.gate import Comparison, GateReport, Verdict
from infinity.evaluation.promotion.margins import GateConfig
from tests.infinity.evaluation.promotion.histories import record, score

UP = "geneval.overall"
CONFIG = GateConfig()


def report(verdict: Verdict) -> GateReport:
    comparison = Comparison(
        metric=UP, unit="share", n=100, champion=0.5, candidate=0.5, gain=0.0, low=-0.01, high=0.01, noise=0.01,
        delta=0.04, num_needed=10, verdict=verdict, sure=-0.02,
    )  # fmt: skip
    return GateReport(champion="a", candidate="b", comparisons=(comparison,))


def answering(**verdicts: Verdict | None) -> tuple[Compare, list[tuple[str, Collection[str] | None]]]:
    """A comparison with every champion by its digest, and what was asked of it; None: its folder is gone."""
    asked: list[tuple[str, Collection[str] | None]] = []

    def compare(champion: Champion, only: Collection[str] | None) -> GateReport | None:
        asked.append((champion.model_digest, only))
        verdict = verdicts[champion.model_digest]
        return None if verdict is None else report(verdict)

    return compare, asked


@pytest.mark.parametrize(
    ("verdict", "end"), [("better", "promote"), ("passes", "keep"), ("worse", "block"), ("too_small", "undecided")]
)
def test_without_an_anchor_the_present_champion_decides(verdict: Verdict, end: str) -> None:
    compare, asked = answering(a=verdict)
    found = contest((record(1, "a", score(UP, 0.5)),), [score(UP, 0.5)], compare, CONFIG)
    assert found.end == end
    assert found.why == report(verdict).cause
    assert asked == [("a", None)]


BEST, PRESENT = record(1, "a", score(UP, 0.9)), record(2, "b", score(UP, 0.5))


@pytest.mark.parametrize(
    ("present", "best", "end"),
    [
        ("better", "passes", "promote"),
        ("better", "worse", "block"),
        ("better", "too_small", "undecided"),
        ("passes", "better", "keep"),
        ("worse", "better", "block"),
        ("too_small", "worse", "block"),
    ],
)
def test_the_worst_of_both_comparisons_decides_and_only_the_present_says_better(
    present: Verdict, best: Verdict, end: str
) -> None:
    compare, asked = answering(a=best, b=present)
    found = contest((BEST, PRESENT), [score(UP, 0.6)], compare, CONFIG)
    assert found.end == end
    assert asked == [("b", None), ("a", (UP,))]


def test_a_best_champion_whose_folder_is_gone_is_compared_by_scores_alone() -> None:
    compare, _ = answering(a=None, b="better")
    near = contest((BEST, PRESENT), [score(UP, 0.9 - 0.03)], compare, CONFIG)
    assert near.end == "promote"
    assert "does not hold it any more" in near.why
    far = contest((BEST, PRESENT), [score(UP, 0.9 - 0.05)], compare, CONFIG)
    assert far.end == "undecided"
    assert "geneval.overall is 0.85, more than δ 0.04 behind 0.9" in far.why


def test_under_a_new_protocol_the_best_so_far_is_scored_again_and_the_cause_says_so() -> None:
    compare, asked = answering(a="worse", b="better")
    found = contest((BEST, PRESENT), [score(UP, 0.6, protocol="p/2")], compare, CONFIG)
    assert found.end == "block"
    assert asked == [("b", None), ("a", (UP,))]
    assert "against record 1, the best so far under an earlier protocol:" in found.why


def test_figures_of_another_protocol_are_never_compared_where_the_folder_is_gone() -> None:
    compare, _ = answering(a=None, b="better")
    found = contest((BEST, PRESENT), [score(UP, 0.1, protocol="p/2")], compare, CONFIG)
    assert found.end == "promote"
    assert "those of geneval.overall are of another protocol: it is no measure for them any more" in found.why


def test_a_rolled_back_champion_is_not_asked() -> None:
    history = (
        record(1, "a", score(UP, 0.5)),
        record(2, "b", score(UP, 0.9)),
        record(3, "a", score(UP, 0.5), action="rollback", back=("b",)),
    )
    compare, asked = answering(a="better")
    assert contest(history, [score(UP, 0.6)], compare, CONFIG).end == "promote"
    assert asked == [("a", None)]
