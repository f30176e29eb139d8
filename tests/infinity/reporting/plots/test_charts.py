"""Charts: axes hold what they draw, ticks are round, and hover data follows the line."""

import json
import math
import re
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.reporting.plots.charts import Interval, Ribbon, interval, line_chart
from infinity.reporting.plots.curves import Series


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


finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
points = st.lists(st.tuples(st.integers(0, 10**6), finite), min_size=1, max_size=50).map(
    lambda pairs: tuple(sorted({float(x): y for x, y in pairs}.items()))
)


def hover(chart: str) -> dict[str, object]:
    """What the page's script reads."""
    found: dict[str, object] = json.loads(unescape(re.search(r'data-chart="([^"]*)"', chart)[1]))  # type: ignore[index]
    return found


@given(points)
def test_any_line_lies_inside_with_ticks_inside_and_hover_data_of_its_values(
    line: tuple[tuple[float, float], ...],
) -> None:
    chart = str(line_chart([Series("a", line)], title="t"))
    for text in re.findall(r'points="([^"]*)"', chart):
        spots = [tuple(map(float, spot.split(","))) for spot in text.split()]
        assert all(-0.7 <= x <= 100.7 and -0.01 <= y <= 100.01 for x, y in spots)
    places = [float(place) for place in re.findall(r'style="(?:top|left):([-0-9.]+)%"', chart)]
    assert places
    assert all(-0.01 <= place <= 100.01 for place in places)
    (shown,) = hover(chart)["lines"]  # type: ignore[misc]
    assert [x for x, _ in shown["points"]] == pytest.approx([x for x, _ in line], rel=1e-4)
    assert [y for _, y in shown["points"]] == pytest.approx([y for _, y in line], rel=1e-4, abs=1e-9)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=20))
def test_a_logarithmic_axis_keeps_equal_ratios_equally_far_apart(values: list[float]) -> None:
    line = tuple((float(x), y) for x, y in enumerate(values))
    chart = str(line_chart([Series("a", line)], title="t", log=True))
    heights = [float(spot.split(",")[1]) for spot in re.findall(r'points="([^"]*)"', chart)[0].split()]
    low, high = hover(chart)["y"]  # type: ignore[misc]
    for y, height in zip(values, heights, strict=True):
        assert height == pytest.approx(100 - 100 * math.log(y / low) / math.log(high / low), abs=0.02)


def test_several_lines_have_a_legend_in_their_tones_and_one_has_none() -> None:
    lines = [Series("<a>", ((0.0, 1.0), (1.0, 2.0)), "tone-1"), Series("b", ((0.0, 3.0),), "tone-2")]
    chart = str(line_chart(lines, title="<t>", unit="dB"))
    assert chart.count('class="key') == 2
    assert "&lt;a&gt;" in chart
    assert "<a>" not in chart
    assert "&lt;t&gt;" in chart
    assert hover(chart)["unit"] == "dB"
    assert 'class="key' not in str(line_chart(lines[:1], title="t"))


def test_a_smoothed_line_stands_before_its_raw_values() -> None:
    line = tuple((float(x), float(x % 2)) for x in range(60))
    chart = str(line_chart([Series("a", line)], title="t", smooth=True))
    assert chart.index('class="raw tone-1"') < chart.index('class="line tone-1"')
    (shown,) = hover(chart)["lines"]  # type: ignore[misc]
    assert max(y for _, y in shown["points"][20:]) < 0.8


@given(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_a_bar_and_its_whisker_never_leave_their_box(value: float, one: float, other: float) -> None:
    mark = str(interval(value, min(one, other), max(one, other)))
    bar, left, width = (float(number) for number in re.findall(r"(?:left|width):([-0-9.]+)%", mark))
    assert 0 <= bar <= 100
    assert left >= 0
    assert width >= 0
    assert left + width <= 100.11
    assert "whisker" not in str(interval(value, None, None))


@given(st.lists(st.tuples(st.floats(1, 9), st.floats(-5, 5), st.floats(0, 5)), max_size=4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_marks_of_intervals_lie_inside_the_plot_and_low_ends_stand_below_high_ones(
    found: list[tuple[float, float, float]], log: bool
) -> None:
    marks = [Interval(x, low, low + width, f"tone-{number + 1}") for number, (x, low, width) in enumerate(found)]
    line = Series("a", ((1.0, 2.0), (9.0, 3.0)))
    chart = str(line_chart([line], title="t", log=log, intervals=marks))
    drawn = re.findall(r'class="whisker [^>]* y1="([-0-9.]+)" y2="([-0-9.]+)"', chart)
    assert len(drawn) == len(marks)
    assert all(-0.01 <= float(high) <= float(low) <= 100.01 for low, high in drawn)


def test_intervals_of_two_lines_at_one_place_stand_apart() -> None:
    marks = [Interval(5.0, 1.0, 2.0, tone) for tone in ("tone-1", "tone-2")]
    chart = str(line_chart([Series("a", ((1.0, 2.0), (9.0, 3.0)))], title="t", intervals=marks))
    places = re.findall(r'class="whisker [^>]*? x1="([0-9.]+)"', chart)
    assert len(set(places)) == 2


@given(points, st.floats(0, 1e5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_ribbon_lies_inside_the_plot_behind_all_lines(
    line: tuple[tuple[float, float], ...], width: float, smooth: bool
) -> None:
    ribbon = Ribbon(tuple((x, y - width) for x, y in line), tuple((x, y + width) for x, y in line))
    chart = str(line_chart([Series("a", line[:3])], title="t", ribbon=ribbon, smooth=smooth))
    spots = [
        tuple(map(float, spot.split(","))) for spot in chart.split('class="ribbon" points="')[1].split('"')[0].split()
    ]
    assert len(spots) == 2 * len(line)
    assert all(-0.01 <= x <= 100.01 and -0.01 <= y <= 100.01 for x, y in spots)
    assert chart.index('class="ribbon"') < chart.index("<polyline")
    assert chart.count("polygon") == 1


@pytest.mark.parametrize("value", [0.0, 5e-324, -3.0, 1e5, 1e20, -1e200])
@pytest.mark.parametrize("spread", [0.0, 5e-324])
def test_values_that_are_all_alike_are_drawn_in_the_middle(value: float, spread: float) -> None:
    chart = str(line_chart([Series("a", ((0.0, value), (1.0, value + spread)))], title="t"))
    spots = chart.split('<polyline class="line tone-1" points="')[1].split('"')[0].split()
    assert [spot.split(",")[1] for spot in spots] == ["50.00", "50.00"]


def test_a_ribbon_that_reaches_zero_needs_a_plain_axis() -> None:
    ribbon = Ribbon(((1.0, 0.0),), ((1.0, 2.0),))
    with pytest.raises(ValueError, match="positive"):
        line_chart([Series("a", ((1.0, 1.0),))], title="t", log=True, ribbon=ribbon)


def test_places_with_names_have_them_below_instead_of_numbers_and_equal_room() -> None:
    names = {1.0: "none", 2.0: "<all>", 3.0: "some"}
    chart = str(line_chart([Series("seed 0", ((1.0, 2.0), (3.0, 3.0)))], title="t", names=names))
    below = re.findall(r'<span style="left:([0-9.]+)%;width:([0-9.]+)%">([^<]*)</span>', chart)
    assert [(float(left), text) for left, _, text in below] == [(16.67, "none"), (50.0, "&lt;all&gt;"), (83.33, "some")]
    assert {float(width) for _, width, _ in below} == {33.33}
    assert 'class="frame named"' in chart
    assert hover(chart)["x"] == [0.5, 3.5]
