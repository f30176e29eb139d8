"""Line charts and interval marks as HTML with inline SVG, without a plotting library.

The chart stretches to the width of its box, while its labels stay HTML text. So it is readable on a phone, sharp at any
zoom, and follows the page's dark or light colours. ``page.js`` shows the values under the pointer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from infinity.reporting.plots.curves import Points, Series, smoothed, thinned


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval of the value at one place of the x axis, in the tone of its line."""

    x: float
    low: float
    high: float
    tone: str


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A grey area between two lines with the same places on the x axis, behind all lines."""

    low: Points
    high: Points

    @property
    def values(self) -> list[float]:
        """All values of both lines."""
        return [y for _, y in (*self.low, *self.high)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    unit: str = "",
    log: bool = False,
    smooth: bool = False,
    intervals: Sequence[Interval] = (),
    ribbon: Ribbon | None = None,
    names: Mapping[float, str] | None = None,
) -> Markup:
    """Return a chart of lines over training steps, or over things with names.

    Args:
        series: At least one line with at least one point.
        title: What the y axis shows.
        unit: Unit of y, shown after the values under the pointer.
        log: Whether y is logarithmic; all values must be positive then.
        smooth: Whether a running mean is drawn, with the raw values pale behind it.
        intervals: Intervals that are drawn as vertical marks, in the tone of their line.
        ribbon: Area behind the lines, such as the range of healthy runs; None for none.
        names: Names of the places 1, 2, …, which stand under them instead of numbers; None or empty for numbers.

    Raises:
        ValueError: There are no points, or a logarithmic axis has a value that is not positive.
    """
    raw = [Series(line.label, thinned(line.points), line.tone) for line in series if line.points]
    if not raw:
        raise ValueError(f"chart {title!r}: expected at least one point, got none")
    main = [Series(line.label, smoothed(line.points, _fade(line.points)), line.tone) for line in raw] if smooth else raw
    values = [*(ribbon.values if ribbon is not None else ()), *(y for line in raw for _, y in line.points)]
    if log and min(values) <= 0:
        raise ValueError(f"chart {title!r}: a logarithmic axis needs positive values")
    if log:  # marks end where the plot would grow by a power of ten: an interval may reach below zero
        least = min(values) / 10
        intervals = [Interval(mark.x, max(mark.low, least), max(mark.high, least), mark.tone) for mark in intervals]
    places = [
        x for points in (*(line.points for line in raw), ribbon.low if ribbon is not None else ()) for x, _ in points
    ]
    x_axis = _Axis.of_names(names) if names else _Axis.around(places, log=False, from_zero=True)
    y_axis = _Axis.around([*values, *(end for mark in intervals for end in (mark.low, mark.high))], log=log)
    paths = [] if ribbon is None else [_area(ribbon, x_axis, y_axis)]
    paths += [_path(line, x_axis, y_axis, "raw") for line in raw] if smooth else []
    paths += [_path(line, x_axis, y_axis, "line") for line in main]
    paths += _marks(intervals, x_axis, y_axis)
    y_labels = [f'<span style="top:{y_axis.down(t):.2f}%">{_tick(t)}</span>' for t in y_axis.ticks]
    x_labels = _x_labels(x_axis, names or {})
    hover = _hover(main, x_axis, y_axis, log=log, unit=unit)
    return Markup(
        f'<figure class="chart"><figcaption>{escape(title)}{_legend(main)}</figcaption>'
        f'<div class="frame{" named" if names else ""}" data-chart="{escape(hover)}">'
        f'<div class="y">{"".join(y_labels)}</div>'
        f'<div class="plot">'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f'{_grid(y_axis)}{"".join(paths)}</svg></div><div class="x">{"".join(x_labels)}</div></div></figure>'
    )


def _hover(lines: Sequence[Series], x_axis: _Axis, y_axis: _Axis, *, log: bool, unit: str) -> str:
    """Return as JSON what the page's script needs to tell the values under the pointer."""
    told = [
        {"label": line.label, "tone": line.tone, "points": [[_short(x), _short(y)] for x, y in line.points]}
        for line in lines
    ]
    axes = {"x": [x_axis.low, x_axis.high], "y": [y_axis.low, y_axis.high], "log": log}
    return json.dumps({**axes, "unit": unit, "lines": told})


def interval(value: float, low: float | None, high: float | None) -> Markup:
    """Return a share in [0, 1] as a bar with its 95 % interval, without the number itself."""
    clip = [
        min(max(number, 0.0), 1.0) * 100
        for number in (value, value if low is None else low, value if high is None else high)
    ]
    whisker = (
        f'<i class="whisker" style="left:{clip[1]:.1f}%;width:{clip[2] - clip[1]:.1f}%"></i>' if low is not None else ""
    )
    return Markup(
        f'<span class="interval" aria-hidden="true"><i class="bar" style="width:{clip[0]:.1f}%"></i>{whisker}</span>'
    )


class _Axis:
    """Range of numbers with its round ticks, and the position of a number in percent."""

    def __init__(self, low: float, high: float, ticks: list[float], *, log: bool) -> None:
        self.low, self.high, self.ticks, self._log = low, high, ticks, log

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool, from_zero: bool = False) -> _Axis:
        low, high = min(values), max(values)
        if log:
            bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
            candidates = [
                m * 10.0**e for e in range(bottom, top + 1) for m in ((1, 2, 5) if top - bottom < 4 else (1,))
            ]
            return cls(low / 1.05, high * 1.05, [t for t in candidates if low / 1.05 <= t <= high * 1.05], log=True)
        low = 0.0 if from_zero else low
        size = max(abs(low), abs(high))
        if high - low > max(1e-300, 1e-12 * size):
            pad = 0.0 if from_zero else 0.04 * (high - low)
        else:  # all alike, but for rounding: no step fits between them
            pad = max(0.5, 1e-6 * size)
        low, high = low - pad, high + pad
        step = _round_step((high - low) / 4)
        first = math.ceil(low / step)
        return cls(low, high, [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)], log=False)

    @classmethod
    def of_names(cls, names: Mapping[float, str]) -> _Axis:
        """Return an axis with as much room on both sides of every place."""
        return cls(min(names) - 0.5, max(names) + 0.5, list(names), log=False)

    def along(self, value: float) -> float:
        if self._log:
            return 100 * math.log(value / self.low) / math.log(self.high / self.low)
        return 100 * (value - self.low) / (self.high - self.low)

    def down(self, value: float) -> float:
        return 100 - self.along(value)


def _fade(points: Points) -> float:
    """Return the weight of the running mean: about a twelfth of a line counts, so that short lines do not lag."""
    return min(0.95, max(0.0, 1 - 12 / len(points)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return power * min((m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999), default=10)


def _path(line: Series, x_axis: _Axis, y_axis: _Axis, kind: str) -> str:
    spots = [(x_axis.along(x), y_axis.down(y)) for x, y in line.points]
    if len(spots) == 1:  # a single logged step is drawn as a short mark
        spots = [(spots[0][0] - 0.6, spots[0][1]), (spots[0][0] + 0.6, spots[0][1])]
    return f'<polyline class="{kind} {line.tone}" points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in spots)}"/>'


def _grid(axis: _Axis) -> str:
    heights = [f"{axis.down(tick):.2f}" for tick in axis.ticks]
    return "".join(f'<line class="grid" x1="0" x2="100" y1="{y}" y2="{y}"/>' for y in heights)


def _x_labels(axis: _Axis, names: Mapping[float, str]) -> list[str]:
    """Return the labels below the plot: numbers, or names that have equal shares of its width."""
    if not names:
        return [f'<span style="left:{axis.along(t):.2f}%">{_tick(t)}</span>' for t in axis.ticks]
    width = 100 / len(names)
    return [
        f'<span style="left:{axis.along(x):.2f}%;width:{width:.2f}%">{escape(name)}</span>' for x, name in names.items()
    ]


def _area(ribbon: Ribbon, x_axis: _Axis, y_axis: _Axis) -> str:
    edge = (*ribbon.low, *reversed(ribbon.high))
    spots = " ".join(f"{x_axis.along(x):.2f},{y_axis.down(y):.2f}" for x, y in edge)
    return f'<polygon class="ribbon" points="{spots}"/>'


def _marks(intervals: Sequence[Interval], x_axis: _Axis, y_axis: _Axis) -> list[str]:
    """Return the marks; those of different lines stand a little apart, since lines share their places."""
    tones = list(dict.fromkeys(each.tone for each in intervals))
    apart = {tone: 0.35 * (number - (len(tones) - 1) / 2) for number, tone in enumerate(tones)}
    return [_mark(each, x_axis.along(each.x) + apart[each.tone], y_axis) for each in intervals]


def _mark(each: Interval, x: float, y_axis: _Axis) -> str:
    low, high = y_axis.down(each.low), y_axis.down(each.high)
    return f'<line class="whisker {each.tone}" x1="{x:.2f}" x2="{x:.2f}" y1="{low:.2f}" y2="{high:.2f}"/>'


def _legend(lines: Sequence[Series]) -> Markup:
    if len(lines) < 2:
        return Markup("")
    told = dict.fromkeys((line.tone, line.label) for line in lines)
    keys = (Markup('<span class="key {}"><i></i>{}</span>').format(*each) for each in told)
    return Markup('<span class="legend">{}</span>').format(Markup("").join(keys))


def _tick(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{round(value, 10):g}"


def _short(value: float) -> float:
    return float(f"{value:.5g}")


__all__ = ["Interval", "Points", "Ribbon", "Series", "interval", "line_chart"]
