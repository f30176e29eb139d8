"""Curves from a training's log: what counts of repeated steps, and how lines are thinned, smoothed and joined."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.reporting.plots.curves import joined, last, per_bit, per_scale, read_curves, smoothed, thinned

values = st.floats(-1e6, 1e6)
lines = st.lists(st.tuples(st.floats(0, 1e6), values), min_size=1, max_size=300).map(lambda pairs: tuple(sorted(pairs)))


def write(folder: Path, *rows: dict[str, object]) -> str:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_only_numbers_are_points_and_steps_come_in_order(tmp_path: Path) -> None:
    uri = write(
        tmp_path,
        {"step": 3, "loss": 0.5, "note": "resumed", "done": True, "list": [1]},
        {"step": 1, "loss": "high", "rate": 1},
        {"step": 2, "loss": 0.25, "rate": None},
    )
    assert read_curves(uri) == {"loss": ((2.0, 0.25), (3.0, 0.5)), "rate": ((1.0, 1.0),)}


def test_the_later_line_of_a_step_counts_metric_by_metric(tmp_path: Path) -> None:
    uri = write(tmp_path, {"step": 1, "loss": 1.0, "rate": 2.0}, {"step": 1, "loss": 3.0})
    assert read_curves(uri) == {"loss": ((1.0, 3.0),), "rate": ((1.0, 2.0),)}


@pytest.mark.parametrize("row", [{"loss": 1.0}, {"step": "soon"}, {"step": None, "loss": 1.0}])
def test_a_line_without_a_step_is_named_with_its_place(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: expected an object with a step"):
        read_curves(write(tmp_path, {"step": 1}, row))


def test_curves_by_scale_and_bit_come_in_the_order_of_numbers_not_of_letters() -> None:
    curves = {f"loss.scale_{k}": ((0.0, float(k)),) for k in (10, 2, 0)} | {
        "loss.bit_1": ((0.0, 9.0),),
        "loss": ((0.0, 5.0),),
    }
    assert [last(points) for points in per_scale(curves, "loss")] == [0.0, 2.0, 10.0]
    assert [last(points) for points in per_bit(curves, "loss")] == [9.0]
    assert per_scale(curves, "los") == per_scale(curves, "loss.scale") == ()


@given(lines, st.integers(1, 300))
def test_thinning_keeps_order_range_and_number(points: tuple[tuple[float, float], ...], most: int) -> None:
    found = thinned(points, most)
    assert 1 <= len(found) <= most or found == points
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    low, high = min(y for _, y in points), max(y for _, y in points)
    assert all(low - 1e-6 <= y <= high + 1e-6 for _, y in found)


@given(st.integers(1, 60), st.integers(1, 8))
def test_thinning_into_full_groups_keeps_the_mean(groups: int, size: int) -> None:
    points = tuple((float(x), float((x * 7919) % 101)) for x in range(groups * size))
    found = thinned(points, groups)
    if len(found) * size == len(points):
        assert fmean(y for _, y in found) == pytest.approx(fmean(y for _, y in points))


@given(lines, st.floats(0, 0.99))
def test_smoothing_starts_at_the_first_value_and_stays_within_those_seen(
    points: tuple[tuple[float, float], ...], weight: float
) -> None:
    found = smoothed(points, weight)
    assert [x for x, _ in found] == [x for x, _ in points]
    assert found[0][1] == points[0][1]
    for place, (_, y) in enumerate(found):
        seen = [value for _, value in points[: place + 1]]
        assert min(seen) - 1e-6 <= y <= max(seen) + 1e-6


@given(st.lists(lines, max_size=5))
def test_joined_curves_never_go_back_and_keep_every_value(parts: list[tuple[tuple[float, float], ...]]) -> None:
    whole = joined(parts)
    assert [y for _, y in whole] == [y for part in parts for _, y in part]
    assert [x for x, _ in whole] == sorted(x for x, _ in whole)
    assert joined([whole]) == whole
