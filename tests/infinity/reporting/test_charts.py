"""Curves and charts: the later line of a repeated step counts, and axes hold what they draw."""

from pathlib import Path

import pytest

from infinity.reporting.charts import line_chart
from infinity.reporting.curves import Series, joined, per_scale, read_curves, smoothed, thinned


def test_the_later_line_of_a_repeated_step_counts(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 2, "loss": 5}\n{"step": 1, "loss": 9}\n\n{"step": 2, "loss": 4, "note": "x"}\n')
    assert read_curves(str(log)) == {"loss": ((1.0, 9.0), (2.0, 4.0))}


def test_a_line_without_step_is_named(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 1}\n{"loss": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_curves(str(log))


def test_scales_come_in_order() -> None:
    curves = {f"acc.scale_{k}": ((0.0, float(k)),) for k in (10, 2, 0)} | {"acc": ((0.0, 5.0),)}
    assert [points[0][1] for points in per_scale(curves, "acc")] == [0, 2, 10]


def test_thinning_keeps_the_mean_of_a_straight_line() -> None:
    line = tuple((float(x), 2.0 * x) for x in range(1000))
    thin = thinned(line, most=100)
    assert len(thin) == 100
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(sum(y for _, y in line) / len(line))


def test_smoothing_a_constant_changes_nothing() -> None:
    assert [y for _, y in smoothed(((0.0, 3.0), (1.0, 3.0), (2.0, 3.0)))] == pytest.approx([3.0, 3.0, 3.0])


def test_joined_curves_go_on_where_the_last_one_ended() -> None:
    assert joined((((1.0, 0.5), (2.0, 0.4)), ((1.0, 0.3),))) == ((1.0, 0.5), (2.0, 0.4), (3.0, 0.3))


def test_a_chart_needs_points_and_a_logarithm_positive_ones() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        line_chart([Series("a", ())], title="t")
    with pytest.raises(ValueError, match="positive"):
        line_chart([Series("a", ((0.0, 0.0),))], title="t", log=True)


@pytest.mark.parametrize("log", [False, True])
def test_every_drawn_point_lies_inside_the_plot(log: bool) -> None:
    chart = str(line_chart([Series("a", ((1.0, 0.001), (5.0, 3.0), (9.0, 200.0)))], title="t", log=log))
    points = chart.split('points="')[1].split('"')[0].split()
    assert all(0 <= float(number) <= 100 for point in points for number in point.split(","))
