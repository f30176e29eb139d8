"""Texts of the run pages."""

import numpy as np

from flows.pages import outline
from infinity.data.histograms import Histogram


def test_the_outline_of_a_histogram_spans_what_it_holds() -> None:
    histogram = Histogram(score="x", edges=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0), counts=(0, 1, 0, 100, 0))
    assert outline(histogram) == (1.0, 4.0, "▁·█")


def test_every_picture_shows() -> None:
    values = np.array([*[10.0] * 1000, 100.0])
    low, high, bars = outline(Histogram.of("contrast", values))
    assert low <= 10.0 < 100.0 < high
    assert bars.count("█") == 1
    assert bars[-1] == "▁"
