"""A slowdown is flagged, noise is not; the figures are recorded or made up, nothing is timed."""

import random
from itertools import pairwise

import pytest

from benchmarks.ledger.judging import Entry, Kind, judge, median_interval, verdicts

RECORDED = (1.305, 1.283, 1.291, 1.268, 1.312, 1.277, 1.299, 1.286)
"""Processor seconds of a training pass, one run after the other."""


def entry(seconds: float, spread: float = 0.01) -> Entry:
    return Entry("2026-01-01", "abc", seconds, seconds * (1 - spread), seconds * (1 + spread))


def runs(*seconds: float) -> list[Entry]:
    return [entry(each) for each in seconds]


def kind_of(*seconds: float) -> Kind:
    return verdicts(runs(*seconds))[-1].kind


@pytest.mark.parametrize("factor", [1.12, 1.3, 2.0, 10.0])
def test_a_planted_slowdown_is_flagged(factor: float) -> None:
    verdict = judge(runs(*RECORDED), entry(factor * 1.29))
    assert verdict.kind == "slower"
    assert verdict.low <= verdict.ratio <= verdict.high
    assert verdict.ratio == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("factor", [0.97, 1.0, 1.03])
def test_what_runs_differ_by_anyway_is_not_flagged(factor: float) -> None:
    assert judge(runs(*RECORDED), entry(factor * 1.29)).kind == "same"


def test_a_gain_is_named_and_losing_it_again_is_a_slowdown() -> None:
    assert kind_of(*RECORDED, 0.9) == "faster"
    assert kind_of(*RECORDED, *[0.9] * 5, 1.29) == "slower"


def test_small_losses_that_add_up_are_flagged() -> None:
    drift = [1.29 * 1.03**number for number in range(8)]
    assert all(later / earlier < 1.05 for earlier, later in pairwise(drift))
    assert kind_of(*RECORDED, *drift) == "slower"


def test_a_run_with_a_wide_spread_is_not_judged_by_its_median() -> None:
    assert judge(runs(*RECORDED), entry(1.5)).kind == "slower"
    assert judge(runs(*RECORDED), entry(1.5, spread=0.3)).kind == "same"


def test_nothing_is_said_of_fewer_than_three_earlier_runs() -> None:
    assert [each.kind for each in verdicts(runs(1.0, 5.0, 1.0, 5.0))][:3] == ["too few"] * 3


def test_an_accepted_run_is_a_new_beginning() -> None:
    history = runs(*RECORDED, *[2.0] * 4)
    assert judge(history, entry(2.0)).kind == "slower"
    history[8] = history[8].accepted("more accurate")
    assert judge(history, entry(2.0)).kind == "same"
    assert judge(history, entry(2.6)).kind == "slower"


@pytest.mark.parametrize("noise", [0.01, 0.04, 0.1])
def test_noise_alone_is_rarely_flagged_and_a_large_slowdown_mostly(noise: float) -> None:
    numbers = random.Random(0)
    false = found = 0
    for _ in range(200):
        series = [entry(numbers.lognormvariate(0, noise), noise) for _ in range(20)]
        false += judge(series[:-1], series[-1]).kind == "slower"
        planted = entry((1.25 + 4 * noise) * series[-1].seconds, noise)
        found += judge(series[:-1], planted).kind == "slower"
    assert false <= 6
    assert found >= 180


@pytest.mark.parametrize(
    ("size", "cut"), [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5), (100, 39)]
)
def test_the_interval_of_a_median_holds_it_in_19_of_20_cases(size: int, cut: int) -> None:
    """The cuts are those of the binomial distribution, as tables of the sign test give them."""
    values = [float(value) for value in range(size)]
    assert median_interval(values) == (cut, size - 1 - cut)
