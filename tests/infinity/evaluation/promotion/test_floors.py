"""Floors: what is below one is said, in the right direction, and an unmeasured metric never passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.promotion.floors import below_floor
from infinity.evaluation.promotion.margins import GateConfig
from tests.infinity.evaluation.promotion.histories import score


def problems(*scores: object, **floors: float) -> tuple[str, ...]:
    named = {name.replace("__", "."): floor for name, floor in floors.items()}
    return below_floor(scores, GateConfig(floors=named))  # type: ignore[arg-type]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_share_passes_from_its_floor_on(value: float, floor: float) -> None:
    assert bool(problems(score("geneval.overall", value), geneval__overall=floor)) == (value < floor)


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_distance_passes_up_to_its_floor_though_it_has_no_margin(value: float, floor: float) -> None:
    assert GateConfig().margin("fid") is None
    assert bool(problems(score("fid", value, unit=""), fid=floor)) == (value > floor)


def test_the_sentence_names_metric_value_unit_and_floor() -> None:
    assert problems(score("reconstruction.psnr_db", 18.5, unit="dB"), reconstruction__psnr_db=20.0) == (
        "reconstruction.psnr_db is 18.5 dB, below its floor of 20",
    )
    assert problems(score("validation.loss", 0.7, unit="nats"), validation__loss=0.6) == (
        "validation.loss is 0.7 nats, above its floor of 0.6",
    )


def test_what_was_not_measured_or_is_not_there_does_not_pass() -> None:
    (said,) = problems(score("geneval.overall", None), geneval__overall=0.1)
    assert "no value" in said
    assert "no pictures" in said
    assert problems(geneval__overall=0.1) == ("geneval.overall has a floor of 0.1 but was not measured",)


def test_a_pattern_holds_for_all_its_metrics_and_the_first_pattern_counts() -> None:
    config = GateConfig(floors={"geneval.counting": 0.2, "geneval.*": 0.5})
    scores = [score("geneval.counting", 0.3), score("geneval.position", 0.3), score("geneval.colors", 0.6)]
    assert below_floor(scores, config) == ("geneval.position is 0.3 share, below its floor of 0.5",)


def test_metrics_without_a_floor_are_not_looked_at() -> None:
    assert problems(score("fid", 1e6, unit="")) == ()


@pytest.mark.parametrize("floor", [float("nan"), float("inf")])
def test_a_floor_is_a_finite_number(floor: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        GateConfig(floors={"fid": floor})


def test_a_floor_behind_a_wider_pattern_is_not_called_unmeasured() -> None:
    config = GateConfig(floors={"geneval.*": 0.5, "geneval.counting": 0.2})
    assert below_floor([score("geneval.counting", 0.6)], config) == ()
