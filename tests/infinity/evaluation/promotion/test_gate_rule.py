"""The rule for one metric: laws that hold for any sample."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float64

from infinity.evaluation.promotion.chance import pessimistic_mean
from infinity.evaluation.promotion.gate_rule import judge, worst_loss
from infinity.evaluation.promotion.margins import GateConfig, Margin

GATE = GateConfig(num_resamples=1000)
DELTA = 0.1


def verdicts(gains: Float64[np.ndarray, "n k"], delta: float = DELTA, num_metrics: int = 1) -> dict[str, np.ndarray]:
    return judge(gains, np.full(gains.shape[1], delta), GATE, num_metrics=num_metrics)


def samples(seed: int, n: int, mean: float, columns: int = 20) -> Float64[np.ndarray, "n k"]:
    return np.random.default_rng(seed).normal(mean, 0.3, (n, columns))


@pytest.mark.parametrize("n", [10, 80, 600])
@pytest.mark.parametrize("mean", [-0.4, -0.1, 0.0, 0.4])
def test_no_metric_gets_two_verdicts_and_bounds_stand_in_order(n: int, mean: float) -> None:
    found = verdicts(samples(0, n, mean))
    assert ((found["worse"] + 0 + found["too_small"] + found["better"]) <= 1).all()
    assert (found["low"] <= found["gain"]).all()
    assert (found["gain"] <= found["high"]).all()
    assert (found["sure"] <= found["low"]).all(), "99 % is lower than 95 %"
    assert (found["noise"] >= 0).all()


def test_a_large_loss_is_worse_a_large_gain_is_better_and_no_change_passes() -> None:
    assert verdicts(samples(1, 600, -0.4))["worse"].all()
    assert verdicts(samples(1, 600, 0.4))["better"].all()
    same = verdicts(np.zeros((600, 3)))
    assert not (same["worse"] | same["better"] | same["too_small"]).any()


def test_a_sure_loss_within_the_margin_passes_and_is_not_called_better() -> None:
    found = verdicts(samples(2, 5000, -0.02), delta=0.1)
    assert not (found["worse"] | found["too_small"] | found["better"]).any()


@pytest.mark.parametrize("n", [2, 9])
def test_fewer_items_than_the_gate_asks_for_decide_nothing(n: int) -> None:
    found = verdicts(samples(3, n, -5.0))
    assert found["too_small"].all()
    assert not found["worse"].any()


def test_ten_items_without_a_loss_do_not_rule_out_a_loss_of_a_third() -> None:
    """Exactly: a share p of lost prompts shows no loss among ten in (1 - p)^10 of cases."""
    ten = np.zeros((10, 1))
    lost = 1 - 0.01 ** (1 / 10)
    exact = judge(ten, np.array([DELTA]), GateConfig(), num_metrics=1)["sure"][0]
    assert exact == pytest.approx(-lost, abs=0.03)
    assert verdicts(ten, delta=0.45 * lost)["too_small"].all()
    assert not verdicts(ten, delta=0.6 * lost)["too_small"].any()


def test_a_loss_in_few_items_is_seen_where_the_interval_would_be_empty() -> None:
    gains = np.zeros((40, 1))
    gains[7] = -1.0
    assert verdicts(gains)["sure"][0] < -0.1 < gains.mean()


def test_more_metrics_at_once_ask_for_more_than_one_alone() -> None:
    gains = samples(4, 100, -0.15)
    alone, many = verdicts(gains, num_metrics=1), verdicts(gains, num_metrics=20)
    assert (many["noise"] > alone["noise"]).all()
    assert (alone["worse"] | ~many["worse"]).all(), "what is worse among many is worse alone"


def test_related_neighbours_widen_what_chance_explains() -> None:
    apart = np.random.default_rng(5).normal(0.0, 0.3, (400, 1))
    together = np.repeat(np.random.default_rng(5).normal(0.0, 0.3, (100, 1)), 4, axis=0)
    assert verdicts(together)["noise"][0] > 1.5 * verdicts(apart)["noise"][0]


def test_the_verdict_follows_from_the_numbers_and_the_seed() -> None:
    gains = samples(6, 60, -0.05)
    first, again = verdicts(gains), verdicts(gains)
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("unit", "better", "values", "expected"),
    [
        ("share", "higher", {"a": 0.25, "b": 1.0, "c": None}, 1.0),
        ("percent", "higher", {"a": 40.0}, 40.0),
        ("share", "higher", {}, 0.0),
        ("dB", "higher", {"a": 31.0}, 2.0),
        ("nats", "lower", {"a": 0.4}, 2.0),
        ("share", "lower", {"a": 0.4}, 2.0),
    ],
)
def test_the_worst_loss_of_an_item_ends_at_zero_or_is_ten_margins(
    unit: str, better: str, values: dict[str, float | None], expected: float
) -> None:
    margin = Margin(metric="m", delta=0.2, unit=unit, better="lower" if better == "lower" else "higher")
    assert worst_loss(margin, values) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [1.5, 4.0])
def test_a_loss_that_was_seen_is_possible_for_every_item(loss: float) -> None:
    """A distance may lose more than 1; the bound knows the largest loss of the sample."""
    gains = np.zeros((200, 1))
    gains[3] = -loss
    bound = pessimistic_mean(gains, np.array([loss]), num_resamples=GATE.num_resamples, seed=GATE.seed)
    assert verdicts(gains)["sure"] <= bound
    assert bound < pessimistic_mean(gains, np.array([1.0]), num_resamples=GATE.num_resamples, seed=GATE.seed)


def test_a_loss_of_exactly_the_margin_is_allowed() -> None:
    """All prompts lose a quarter, the margin is a quarter; binary fractions, so that nothing is rounded."""
    exact, more = (verdicts(np.full((64, 1), -loss), delta=0.25) for loss in (0.25, 0.2500001))
    assert float(exact["low"][0]) == -0.25
    assert not exact["worse"].any()
    assert more["worse"].all()


@pytest.mark.parametrize("size", [1e160, 1e200, 1e300])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_gains_too_large_to_be_squared_never_pass(size: float, sign: float) -> None:
    gains = sign * size * (1.0 + np.arange(300.0) % 7)
    with np.errstate(all="ignore"):
        found = judge(gains[:, None], np.array([0.1]), GateConfig(num_resamples=1000), num_metrics=1)
    assert found["worse"][0] or found["too_small"][0]
    assert not found["better"][0]
