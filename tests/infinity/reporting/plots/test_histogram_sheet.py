"""A diagram shows every picture, and which ones a threshold leaves out."""

import io

import numpy as np
import pytest
from PIL import Image

from infinity.data.curation.histograms import Histogram
from infinity.reporting.plots.histogram_sheet import diagram, histogram_sheet

KEPT, OUT = (74, 122, 180), (214, 96, 77)


def area(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == np.array(colour, np.uint8)).all(axis=2).sum())


def test_what_lies_beyond_a_threshold_is_red() -> None:
    values = np.linspace(1.0, 120.0, 1000)
    assert area(diagram(Histogram.of("contrast", values)), OUT) == 0
    assert area(diagram(Histogram.of("contrast", values)), KEPT) > 1000
    strict, soft = (diagram(Histogram.of("contrast", values, limit)) for limit in (90.0, 30.0))
    assert area(strict, OUT) > 2 * area(soft, OUT) > 1000
    assert area(strict, KEPT) < area(soft, KEPT)
    highest = diagram(Histogram.of("contrast", values, None, 30.0))
    assert area(highest, OUT) > area(highest, KEPT)


def test_a_single_picture_shows_beside_a_million() -> None:
    counts = [0] * 40
    counts[3], counts[30] = 10**6, 1
    histogram = Histogram.of("contrast", np.zeros(0)).replace(counts=tuple(counts))
    columns = np.flatnonzero((diagram(histogram) == np.array(KEPT, np.uint8)).all(axis=2).any(axis=0))
    assert columns.max() - columns.min() > 300  # from the first filled bin to the last


def test_a_sheet_has_a_diagram_for_every_score() -> None:
    histograms = [Histogram.of(name, np.array([20.0, 40.0]), 30.0) for name in ("contrast", "caption_chars")]
    one, two = (Image.open(io.BytesIO(histogram_sheet(histograms[:number]))) for number in (1, 2))
    assert one.height == two.height
    assert one.width < two.width


def test_an_empty_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a histogram of some pictures"):
        diagram(Histogram.of("contrast", np.zeros(0)))
