"""Histograms of scores as one picture, with the thresholds and what lies beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from infinity.data.curation.histograms import Histogram
from infinity.data.images.contact_sheet import compose_sheet

_WIDTH_PX, _HEIGHT_PX = 400, 190
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 14, 386, 54, 166
_INK, _GREY, _KEPT, _OUT = (34, 34, 34), (120, 120, 120), (74, 122, 180), (214, 96, 77)


def histogram_sheet(histograms: Sequence[Histogram], columns: int = 3) -> bytes:
    """Return a PNG with one diagram per score, in rows of ``columns``.

    Blue bins are kept, red ones lie beyond a threshold, which is a red line; a bin that a threshold cuts has both
    colours. The axis covers the range of the pictures. Heights are square roots, so that few pictures are visible too.

    Raises:
        ValueError: There is no histogram, or one without any picture.
    """
    return compose_sheet([diagram(histogram) for histogram in histograms], columns, gap_px=8)


def diagram(histogram: Histogram) -> UInt8[np.ndarray, "H W 3"]:
    """Return the diagram of one score.

    Raises:
        ValueError: There is no picture in any bin.
    """
    axis = _ScoreAxis.of(histogram)
    image = Image.new("RGB", (_WIDTH_PX, _HEIGHT_PX), "white")
    draw = ImageDraw.Draw(image)
    draw.text((_LEFT_PX, 6), histogram.score, fill=_INK, font=ImageFont.load_default(16))
    draw.text((_LEFT_PX, 28), _limits(histogram), fill=_GREY, font=ImageFont.load_default(13))
    most = max(histogram.counts)
    for place in range(axis.first, axis.last + 1):
        if not histogram.counts[place]:
            continue
        height = max(2, round((_BOTTOM_PX - _TOP_PX) * (histogram.counts[place] / most) ** 0.5))
        for start, end, is_kept in _pieces(histogram, histogram.edges[place], histogram.edges[place + 1]):
            box = (axis.x(start), _BOTTOM_PX - height, max(axis.x(start), axis.x(end) - 1), _BOTTOM_PX)
            draw.rectangle(box, fill=_KEPT if is_kept else _OUT)
    draw.line((_LEFT_PX, _BOTTOM_PX + 1, _RIGHT_PX, _BOTTOM_PX + 1), fill=_GREY)
    small = ImageFont.load_default(12)
    draw.text((_LEFT_PX, _BOTTOM_PX + 4), _number(histogram.edges[axis.first]), fill=_GREY, font=small)
    draw.text((_RIGHT_PX, _BOTTOM_PX + 4), _number(histogram.edges[axis.last + 1]), fill=_GREY, font=small, anchor="ra")
    for limit in (histogram.minimum, histogram.maximum):
        if limit is not None and histogram.edges[axis.first] <= limit <= histogram.edges[axis.last + 1]:
            draw.line((axis.x(limit), _TOP_PX - 4, axis.x(limit), _BOTTOM_PX), fill=_OUT, width=2)
    return np.asarray(image)


@dataclass(frozen=True, slots=True)
class _ScoreAxis:
    """Axis from scores to pixel columns; bins are equally wide even where their borders grow geometrically.

    Attributes:
        first: Number of the first bin that is drawn.
        last: Number of the last bin that is drawn.
    """

    edges: tuple[float, ...]
    first: int
    last: int

    @classmethod
    def of(cls, histogram: Histogram) -> _ScoreAxis:
        """Return the axis from the first to the last bin that is not empty, extended to thresholds in range."""
        filled = [place for place, count in enumerate(histogram.counts) if count]
        if not filled:
            raise ValueError(f"{histogram.score}: expected a histogram of some pictures, got an empty one")
        first, last = filled[0], filled[-1]
        for limit in (histogram.minimum, histogram.maximum):
            if limit is not None and histogram.edges[0] <= limit <= histogram.edges[-1]:
                place = min(int(np.searchsorted(histogram.edges, limit, side="right")) - 1, len(histogram.counts) - 1)
                first, last = min(first, place), max(last, place)
        return cls(histogram.edges, first, last)

    def x(self, value: float) -> int:
        """Return the pixel column of a score."""
        place = float(np.interp(value, self.edges, np.arange(len(self.edges))))
        share = (place - self.first) / (self.last + 1 - self.first)
        return _LEFT_PX + round(min(1.0, max(0.0, share)) * (_RIGHT_PX - _LEFT_PX))


def _pieces(histogram: Histogram, start: float, end: float) -> list[tuple[float, float, bool]]:
    """Return the pieces of a bin between thresholds: from, to, and whether it is kept."""
    low = -np.inf if histogram.minimum is None else histogram.minimum
    high = np.inf if histogram.maximum is None else histogram.maximum
    cuts = [start, *(limit for limit in sorted((low, high)) if start < limit < end), end]
    return [(a, b, low <= (a + b) / 2 <= high) for a, b in pairwise(cuts)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _limits(histogram: Histogram) -> str:
    limits = [f"at least {histogram.minimum:g}"] if histogram.minimum is not None else []
    limits += [f"at most {histogram.maximum:g}"] if histogram.maximum is not None else []
    return f"kept: {' and '.join(limits) if limits else 'all'}"
