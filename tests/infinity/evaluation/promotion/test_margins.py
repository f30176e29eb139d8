"""Margins: the first that matches counts, and a gate without sense is refused when it is written down."""

import math
from typing import Any

import pytest

from infinity.evaluation.promotion.margins import MARGINS, GateConfig, Margin


@pytest.mark.parametrize(
    ("metric", "delta"),
    [
        ("scene_geneval.overall", 0.08),
        ("scene_geneval.counting", 0.25),
        ("geneval.overall", 0.04),
        ("geneval_rewritten.overall", 0.04),
        ("geneval.two_object", 0.1),
        ("dpg.overall", 1.5),
        ("validation.loss", 0.005),
        ("pick_score.overall", 0.2),
        ("diversity.overall", 0.02),
        ("judge_geneval2.overall", 3.0),
        ("judge_dsg_rewritten.overall", 3.0),
        ("text_rendering.overall", 0.05),
    ],
)
def test_the_first_pattern_that_matches_gives_the_margin(metric: str, delta: float) -> None:
    margin = GateConfig().margin(metric)
    assert margin is not None
    assert margin.delta == delta


@pytest.mark.parametrize(
    "metric",
    ["dpg.entity", "fid.tf1", "seconds.pretrain", "", "judge_dsg.gaps", "judge_dsg.tokens", "SCENE_GENEVAL.OVERALL"],
)
def test_a_metric_that_no_pattern_names_has_no_margin(metric: str) -> None:
    assert GateConfig().margin(metric) is None


def test_only_a_loss_is_better_when_it_is_lower() -> None:
    assert [margin.metric for margin in MARGINS if margin.better == "lower"] == ["validation.loss"]


def test_another_delta_concerns_the_named_metric_alone_and_keeps_unit_and_direction() -> None:
    gate, changed = GateConfig(), GateConfig().with_deltas({"geneval.two_object": 0.2, "validation.loss": 0.5})
    for metric, delta in (("geneval.two_object", 0.2), ("geneval.counting", 0.1), ("validation.loss", 0.5)):
        margin, before = changed.margin(metric), gate.margin(metric)
        assert margin is not None
        assert before is not None
        assert margin.delta == delta
        assert (margin.unit, margin.better) == (before.unit, before.better)
    assert gate == GateConfig(), "the gate itself stays as it was"
    assert GateConfig.parse(changed.dump()) == changed


def test_another_delta_of_a_metric_that_is_not_gated_names_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no metric 'fid.tf1' is gated; expected one of scene_geneval.overall, "):
        GateConfig().with_deltas({"fid.tf1": 1.0})


@pytest.mark.parametrize("delta", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_is_a_finite_number_above_zero(delta: float) -> None:
    with pytest.raises(ValueError, match=r"Margin.*expected (a delta above 0|finite numbers)"):
        Margin(metric="psnr", delta=delta, unit="dB")
    with pytest.raises(ValueError, match=r"expected (a delta above 0|finite numbers)"):
        GateConfig().with_deltas({"validation.loss": delta})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": 0.5}, "confidence: expected above 0.5 to below 1, got 0.5"),
        ({"confidence": 1.0}, "confidence: expected above 0.5 to below 1, got 1.0"),
        ({"min_items": 1}, "min_items: expected at least 2"),
        ({"num_resamples": 999}, "num_resamples: expected at least 1,000"),
        ({"floors": {"geneval*": math.nan}}, r"floors: expected finite numbers"),
    ],
)
def test_a_gate_that_could_not_decide_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateConfig(**changes)
