"""Bands over seeds, and when a run is outside them."""

from __future__ import annotations

import random

import pytest

from infinity.reporting.plots.curves import Points
from infinity.reporting.plots.reference import (
    WIDENED,
    ReferenceBand,
    ReferenceCurves,
    build_bands,
    departures,
    family_of,
    shipped_references,
)

STEPS = range(10, 510, 10)


def curve(seed: int, *, shift: float = 0.0, since: int = 0, number: int = 50) -> Points:
    """A loss that falls from 0.69 to 0.4 with noise, and is moved from a step on."""
    draw = random.Random(seed)
    return tuple(
        (float(step), 0.69 - 0.29 * step / 500 + draw.gauss(0, 0.004) + (shift if step >= since else 0.0))
        for step in list(STEPS)[:number]
    )


def reference(num_seeds: int = 5) -> ReferenceCurves:
    bands = build_bands([{"loss": curve(seed), "tokens_per_s": curve(seed)} for seed in range(num_seeds)])
    return ReferenceCurves(recipe="r", stage="s", num_seeds=num_seeds, family="f", data="d", spec={}, bands=bands)


def test_a_band_holds_all_seeds_and_only_metrics_that_tell_of_health() -> None:
    bands = reference().bands
    assert list(bands) == ["loss"]
    for seed in range(5):
        for step, value in curve(seed):
            low, high = bands["loss"].at(step) or (1.0, 0.0)
            assert low <= value <= high
    assert bands["loss"].at(5) is None
    between = bands["loss"].at(15)
    assert between is not None
    assert between[0] < 0.69 - 0.29 * 15 / 500 < between[1]


def test_healthy_runs_of_other_seeds_raise_no_alarm() -> None:
    found = reference()
    alarms = sum(bool(departures({"loss": curve(seed)}, found)) for seed in range(100, 200))
    assert alarms <= 1


@pytest.mark.parametrize("shift", [0.1, -0.1])
def test_a_run_that_leaves_its_band_is_told_with_step_and_side(shift: float) -> None:
    (found,) = departures({"loss": curve(7, shift=shift, since=300)}, reference())
    assert found.since == 300
    assert found.side == ("above" if shift > 0 else "below")
    assert f"loss {found.side} the band since step 300" in found.sentence


def test_a_run_is_told_after_three_logged_steps_and_forgiven_when_it_comes_back() -> None:
    band = reference()
    for number in (30, 31):
        assert not departures({"loss": curve(7, shift=0.1, since=300, number=number)}, band)
    assert departures({"loss": curve(7, shift=0.1, since=300, number=32)}, band)
    back = curve(7, shift=0.1, since=300, number=40) + tuple(p for p in curve(7) if p[0] > 400)
    assert not departures({"loss": back}, band)


def test_what_differs_between_healthy_seeds_does_not_part_runs_and_shape_does() -> None:
    spec = {"model": {"width": 8, "drop_path": 0.1}, "loop": {"num_steps": 5, "batch_size": 2}, "seed": 1}
    family = family_of("transformer", spec)
    assert family_of("transformer", spec | {"seed": 2, "optimizer": {}}) == family
    assert family_of("transformer", spec | {"model": {"width": 8, "drop_path": 0.0}}) == family
    assert family_of("transformer", spec | {"model": {"width": 9}}) != family
    assert family_of("transformer", spec | {"start_from": "model"}) != family
    assert family_of("tokenizer", spec) != family


def test_shipped_curves_can_be_read_and_are_of_several_seeds() -> None:
    found = shipped_references()
    assert {(each.recipe, each.stage) for each in found} >= {("mini", "tokenizer"), ("mini", "pretrain")}
    assert all(each.num_seeds >= 3 and "loss" in each.bands for each in found)


def test_a_band_whose_lines_differ_in_length_is_refused() -> None:
    with pytest.raises(ValueError, match="ascending steps"):
        ReferenceBand(steps=(1, 2), median=(0.1,), low=(0.1, 0.1), high=(0.1, 0.1))
    with pytest.raises(ValueError, match="ascending steps"):
        ReferenceBand(steps=(2, 1), median=(0.1, 0.1), low=(0.1, 0.1), high=(0.1, 0.1))


def test_few_seeds_are_widened_more() -> None:
    band = reference().bands["loss"]
    widths = []
    for number in (1, 2, 3, 4, 5, 9):
        low, high = band.at(100, num_seeds=number) or (0.0, 0.0)
        widths.append(high - low)
    assert widths[0] == widths[1] == widths[2] > widths[3] > widths[4] == widths[5] > 0


@pytest.mark.parametrize("number", WIDENED)
def test_a_further_value_lies_outside_a_band_in_about_9_of_100_cases(number: int) -> None:
    draw = random.Random(number)
    outside = 0
    for _ in range(4000):
        found = [100 + draw.gauss(0, 1000) for _ in range(number)]  # so wide that the least room does not count
        low, high = min(found), max(found)
        band = ReferenceBand(steps=(1,), median=(0.0,), low=(low,), high=(high,))
        ends = band.at(1, num_seeds=number)
        assert ends is not None
        outside += not ends[0] <= 100 + draw.gauss(0, 1000) <= ends[1]
    assert 0.07 <= outside / 4000 <= 0.11


def test_all_stages_of_the_demo_have_curves_of_at_least_three_seeds() -> None:
    stages = {each.stage: each.num_seeds for each in shipped_references() if each.recipe == "demo"}
    assert set(stages) == {"tokenizer", "pretrain", "finetune"}
    assert min(stages.values()) >= 3
