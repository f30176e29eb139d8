"""The gate lets through what changed nothing, stops what became worse, and refuses what cannot be compared."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from infinity.evaluation.promotion.chance import items_needed
from infinity.evaluation.promotion.gate import GateError, ScoredModel, _comparison, compare
from infinity.evaluation.promotion.gate_rule import judge
from infinity.evaluation.promotion.margins import MARGINS, GateConfig, Margin
from infinity.evaluation.promotion.resampling import resample
from infinity.evaluation.score import Score

FAST = GateConfig(num_resamples=2000)


def measured(
    name: str,
    items: Mapping[str, Mapping[str, float | None]],
    *,
    protocol: str = "p/1",
    unit: str = "share",
    setting: str = "s",
) -> ScoredModel:
    scores = {
        metric: Score(metric=metric, value=0.5, unit=unit, n=len(values), protocol=protocol)
        for metric, values in items.items()
    }
    return ScoredModel(model=f"/{name}", digest=name, setting=setting, scores=scores, items=items)


def pair(gains: np.ndarray, metric: str = "geneval.overall") -> tuple[ScoredModel, ScoredModel]:
    old = {f"{i:04d}": 0.5 for i in range(len(gains))}
    new = {f"{i:04d}": 0.5 + float(gain) for i, gain in enumerate(gains)}
    return measured("old", {metric: old}), measured("new", {metric: new})


# --- One thousand trials ---------------------------------------------------------------------------------------------

TRIALS = 1000


def shares(random: np.random.Generator, n: int, loss: float, *, pictures: int = 4) -> np.ndarray:
    """Gains of n prompts in as many trials; prompts differ in difficulty, the candidate loses ``loss`` on the mean."""
    right = random.beta(2.0, 1.0, (n, 1))
    # A loss takes the same share of every prompt's chance, so that none falls below zero.
    left = right * (1 - loss / right.mean())
    old = random.binomial(pictures, np.broadcast_to(right, (n, TRIALS)))
    new = random.binomial(pictures, np.broadcast_to(left, (n, TRIALS)))
    return (new - old) / pictures


def decide(trials: Mapping[str, np.ndarray], delta: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """In which trials the model is blocked and in which it is promoted, over all metrics."""
    blocked, undecided = np.zeros(TRIALS, bool), np.zeros(TRIALS, bool)
    for name, gains in trials.items():
        found = judge(gains, np.full(TRIALS, delta[name]), FAST, num_metrics=len(trials))
        blocked |= found["worse"]
        undecided |= found["too_small"]
    return blocked, ~blocked & ~undecided


SETTINGS = {
    "GenEval: overall and three tasks": ({"overall": 553, "two": 99, "counting": 80, "position": 100}, 0.04, 0.1),
    "one metric, 250 prompts": ({"overall": 250}, 0.06, 0.1),
    "drawn scenes: six tasks of 20": ({f"task{k}": 20 for k in range(6)}, 0.0, 0.28),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_1000_trials_few_false_blocks_and_nearly_all_regressions_of_two_deltas_caught(setting: str) -> None:
    sizes, delta_overall, delta_task = SETTINGS[setting]
    random = np.random.default_rng(7)
    delta = {name: delta_overall if name == "overall" else delta_task for name in sizes}
    blocked, promoted = decide({name: shares(random, n, 0.0) for name, n in sizes.items()}, delta)
    assert blocked.mean() <= 0.05
    assert promoted.mean() >= 0.95
    for planted in list(sizes)[:2]:
        trials = {name: shares(random, n, 2 * delta[name] if name == planted else 0.0) for name, n in sizes.items()}
        blocked, promoted = decide(trials, delta)
        assert blocked.mean() >= 0.95, planted
        assert promoted.mean() <= 0.05, planted


@pytest.mark.parametrize(("n", "sd", "delta"), [(256, 1.0, 0.2), (100, 1.0, 0.25), (30, 0.2, 0.1)])
def test_1000_trials_of_decibels(n: int, sd: float, delta: float) -> None:
    random = np.random.default_rng(11)
    unchanged = random.normal(0.0, sd, (n, TRIALS))
    blocked, _ = decide({"psnr": unchanged}, {"psnr": delta})
    assert blocked.mean() <= 0.05
    blocked, promoted = decide({"psnr": unchanged - 2 * delta}, {"psnr": delta})
    assert promoted.mean() <= 0.05
    assert blocked.mean() >= 0.95


@pytest.mark.parametrize("n", [10, 15, 40])
def test_a_sample_that_is_too_small_says_so_and_never_promotes_a_regression(n: int) -> None:
    random = np.random.default_rng(5)
    gains = shares(random, n, 0.0)
    blocked, promoted = decide({"m": gains}, {"m": 0.03})
    assert blocked.mean() <= 0.05
    assert (~blocked & ~promoted).mean() > 0.5, "undecided"
    _, promoted = decide({"m": shares(random, n, 0.06)}, {"m": 0.03})
    assert promoted.mean() <= 0.05


# --- Laws ------------------------------------------------------------------------------------------------------------


def test_a_model_compared_with_itself_is_promoted() -> None:
    old, _ = pair(np.zeros(20))
    report = compare(old, old, GateConfig())
    assert report.decision == "promote"
    assert not report.is_better
    assert report.comparisons[0].gain == 0.0
    assert "worse" not in report.comparisons[0].sentence
    assert report.worst == ()


def test_intervals_are_those_of_student_for_normal_differences() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 25)
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=values.std(ddof=1) / 5)
    found = judge(values[:, None], np.array([1.0]), GateConfig(num_resamples=40_000), num_metrics=1)
    assert found["low"][0] == pytest.approx(low, abs=0.04)
    assert found["high"][0] == pytest.approx(high, abs=0.04)


def test_better_needs_the_whole_interval_above_zero_and_enough_items() -> None:
    """A mean above zero is not enough, nor a sure gain of a handful of items."""
    rng = np.random.default_rng(3)
    wide, sure = rng.normal(0.0, 1.0, 40), rng.normal(0.5, 0.01, 40)
    gains = np.stack([wide - wide.mean() + 0.1, sure], axis=1)
    found = judge(gains, np.array([5.0, 5.0]), FAST, num_metrics=2)
    assert found["better"].tolist() == [False, True]
    assert (found["worse"] | found["too_small"]).tolist() == [False, False]
    few = judge(gains[:9], np.array([5.0, 5.0]), FAST, num_metrics=2)
    assert few["better"].tolist() == [False, False]
    assert few["too_small"].tolist() == [True, True]


def test_a_gain_that_the_interval_leaves_open_is_not_called_better() -> None:
    wide = np.random.default_rng(3).normal(0.0, 0.1, 40)
    for gain, verdict in ((0.01, "passes"), (0.3, "better")):
        old, new = pair(wide - wide.mean() + gain)
        assert compare(old, new, FAST).comparisons[0].verdict == verdict


def test_the_order_of_items_does_not_matter_and_the_same_input_gives_the_same_report() -> None:
    old, new = pair(np.random.default_rng(1).normal(0, 0.1, 50))
    metric = "geneval.overall"
    shuffled = measured("new", {metric: dict(reversed(list(new.items[metric].items())))})
    assert compare(old, new, FAST) == compare(old, shuffled, FAST)


def test_lower_is_better_where_the_margin_says_so() -> None:
    old = measured("old", {"validation.loss": {f"{i}": 0.5 for i in range(20)}}, unit="nats")
    new = measured("new", {"validation.loss": {f"{i}": 0.4 for i in range(20)}}, unit="nats")
    assert compare(old, new, FAST).comparisons[0].verdict == "better"
    back = compare(new, old, FAST)
    assert back.decision == "block"
    assert back.cause.startswith("validation.loss worse by 0.1 (δ 0.005")


def test_the_cause_names_the_metric_the_loss_and_the_margin_and_the_worst_prompts() -> None:
    gains = np.full(99, -0.3)
    gains[17] = -0.5
    old, new = pair(gains, "geneval.counting")
    report = compare(old, new, FAST, num_worst=2)
    assert report.decision == "block"
    assert "geneval.counting worse by 0.302 (δ 0.1" in report.cause
    assert report.worst[0].id == "0017"
    assert len(report.worst) == 2


def test_one_worse_metric_blocks_whatever_the_others_gain() -> None:
    ids = [f"{i}" for i in range(100)]
    old = measured("old", {m: dict.fromkeys(ids, 0.5) for m in ("geneval.overall", "geneval.counting")})
    new = measured("new", {"geneval.overall": dict.fromkeys(ids, 0.9), "geneval.counting": dict.fromkeys(ids, 0.1)})
    report = compare(old, new, FAST)
    assert report.decision == "block"
    assert "geneval.counting" in report.cause
    assert "overall" not in report.cause


def test_too_few_items_are_undecided_and_the_sentence_says_how_many_decide() -> None:
    old, new = pair(np.array([0.3, -0.3, 0.2, -0.25]))
    report = compare(old, new, FAST)
    assert report.decision == "undecided"
    assert "with 4 items; about" in report.cause
    assert report.comparisons[0].num_needed >= 10


def test_a_single_item_is_undecided() -> None:
    old, new = pair(np.array([0.0]))
    report = compare(old, new, FAST)
    assert report.decision == "undecided"
    assert "but only 1 items; at least 10 decide" in report.cause
    assert report.comparisons[0].low is None
    assert type(report).parse(report.dump()) == report


def test_a_task_of_few_items_is_left_to_the_overall_metric_that_has_them() -> None:
    task = {f"s{i}": 1.0 for i in range(5)}
    rest = {f"r{i}": 0.5 for i in range(20)}
    old = measured("old", {"scene_geneval.overall": task | rest, "scene_geneval.single_object": task})
    report = compare(old, old, FAST)
    assert report.decision == "promote"
    reason = "5 items are too few to judge alone (expected 10); scene_geneval.overall has them"
    assert report.ungated == {"scene_geneval.single_object": reason}
    alone = measured("old", {"scene_geneval.single_object": task})
    assert compare(alone, alone, FAST).decision == "undecided"


def test_a_task_with_just_enough_items_is_judged_alone() -> None:
    task = {f"s{i}": 1.0 for i in range(10)}
    rest = {f"r{i}": 0.5 for i in range(20)}
    old = measured("old", {"scene_geneval.overall": task | rest, "scene_geneval.single_object": task})
    assert compare(old, old, FAST).ungated == {}


def test_a_promotion_names_what_became_better_and_what_is_nearest_to_its_margin() -> None:
    ids = [f"{i}" for i in range(50)]
    old = measured("old", {m: dict.fromkeys(ids, 0.5) for m in ("geneval.overall", "geneval.counting")})
    new = measured("new", {"geneval.overall": dict.fromkeys(ids, 0.5), "geneval.counting": dict.fromkeys(ids, 0.9)})
    cause = compare(old, new, FAST).cause
    assert "better: geneval.counting;" in cause
    assert "nearest to its margin: geneval.overall" in cause
    assert "better: none;" in compare(old, old, FAST).cause


def test_metrics_without_a_margin_are_shown_and_block_nothing() -> None:
    ids = [f"{i}" for i in range(200)]
    old = measured("old", {"geneval.overall": dict.fromkeys(ids, 0.5), "taste": dict.fromkeys(ids, 1.0)})
    new = measured("new", {"geneval.overall": dict.fromkeys(ids, 0.5), "taste": dict.fromkeys(ids, 0.0)})
    report = compare(old, new, FAST)
    assert report.decision == "promote"
    assert report.ungated == {"taste": "no margin is set for it"}


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"setting": "t"}, "different settings"),
        ({"protocol": "p/2"}, "two protocols, 'p/1' and 'p/2'"),
        ({"unit": "dB"}, "its margin is in 'share'"),
        ({"items": {"geneval.overall": {f"{i}": 0.5 for i in range(19)}}}, "1 only on the champion .first: '19'."),
        ({"items": {"geneval.overall": {f"{i + 1}": 0.5 for i in range(20)}}}, "1 only on the candidate .first: '20'."),
        (
            {"items": {"geneval.overall": {f"{i}": None if i == 3 else 0.5 for i in range(20)}}},
            "no finite value for 1 of",
        ),
        *(
            (
                {"items": {"geneval.overall": {f"{i}": wrong if i < 2 else 0.5 for i in range(20)}}},
                "finite value for 2",
            )
            for wrong in (float("nan"), float("inf"), 1e300)
        ),
        (
            {"items": {"geneval.counting": {f"{i}": 0.5 for i in range(20)}}},
            "evaluate both again with the same benchmarks",
        ),
        ({"items": {}}, "geneval.overall was not measured per item on /new"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_sentence(change: dict[str, object], sentence: str) -> None:
    items = {"geneval.overall": {f"{i}": 0.5 for i in range(20)}}
    old = measured("old", items)
    new = measured("new", **{"items": items, **change})  # type: ignore[arg-type]
    with pytest.raises(GateError, match=sentence):
        compare(old, new, FAST)


def test_nothing_to_compare_is_refused() -> None:
    old = measured("old", {"taste": {"a": 1.0, "b": 2.0}})
    with pytest.raises(GateError, match="at least one metric with values per item and a margin"):
        compare(old, old, FAST)


@pytest.mark.parametrize("wrong", [{"delta": 0.0}, {"delta": -1.0}, {"delta": float("nan")}])
def test_margins_are_above_zero(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"delta above 0|expected finite numbers"):
        Margin(metric="m", unit="", **wrong)


def test_default_margins_are_small_losses_in_their_units() -> None:
    """A margin as wide as what a metric can span would let everything through."""
    largest = {"share": 0.3, "percent": 3.0, "dB": 0.5, "nats": 0.02, "": 0.5}
    assert all(0 < margin.delta <= largest[margin.unit] for margin in MARGINS)
    named = [margin.metric for margin in MARGINS]
    assert len(set(named)) == len(named)


def test_the_first_margin_whose_pattern_fits_counts() -> None:
    config = GateConfig()
    overall, task = config.margin("scene_geneval.overall"), config.margin("scene_geneval.counting")
    assert overall is not None
    assert task is not None
    assert overall.delta < task.delta
    assert config.margin("taste") is None


def test_resampling_needs_two_items() -> None:
    with pytest.raises(ValueError, match="at least 2 items"):
        resample(np.zeros((1, 1)), num_resamples=1000, seed=0)


def test_few_items_without_a_loss_do_not_rule_out_that_prompts_are_lost_wholly() -> None:
    # The champion has 0.5 on every item, so no item can lose more. With n equal gains the bound is
    # 0.5 * (1 - 0.01 ** (1 / n)): 0.103 for 20 items and 0.071 for 30; a loss of 2 delta is 0.08.
    for n, decision in ((10, "undecided"), (20, "undecided"), (30, "promote"), (200, "promote")):
        old, new = pair(np.zeros(n))
        report = compare(old, new, FAST)
        assert report.decision == decision, n
        assert not report.is_better
    old, new = pair(np.zeros(20))
    assert "is not ruled out with 20 items; about" in compare(old, new, FAST).cause


def test_only_the_metrics_that_are_asked_for_are_judged() -> None:
    ids = [f"{i:03d}" for i in range(100)]
    old = measured("old", {m: dict.fromkeys(ids, 0.5) for m in ("geneval.overall", "geneval.counting")})
    new = measured("new", {"geneval.overall": dict.fromkeys(ids, 0.9), "geneval.counting": dict.fromkeys(ids, 0.1)})
    report = compare(old, new, FAST, only=("geneval.overall",))
    assert report.decision == "promote"
    assert report.is_better
    assert report.ungated == {"geneval.counting": "is judged against another champion"}


def test_how_many_items_decide_knows_the_largest_loss_that_was_seen() -> None:
    """Decibels may fall by more than ten margins; one such item calls for more items than none."""
    margin = Margin(metric="psnr", delta=0.2, unit="dB", better="higher")
    gains = np.zeros(600)
    few = _comparison("psnr", margin, gains, {"a": 30.0}, {"a": 30.0}, FAST, 1)
    gains[0] = -30.0
    more = _comparison("psnr", margin, gains, {"a": 30.0}, {"a": 29.0}, FAST, 1)
    assert few.num_needed == items_needed(600, 0.0, 2 * margin.delta, 10 * margin.delta)
    assert more.num_needed >= items_needed(600, 0.0, 2 * margin.delta, 30.0) > 10 * few.num_needed
