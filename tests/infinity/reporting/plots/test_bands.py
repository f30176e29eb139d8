"""Figures are judged in words, and the documentation says the same."""

from itertools import pairwise
from pathlib import Path

import pytest

from infinity.reporting.plots.bands import BANDS, judge

FIGURES = Path(__file__).parents[4] / "docs" / "figures.md"


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        ("bit_accuracy", 0.5, "broken"),
        ("bit_accuracy", 0.65, "early"),
        ("bit_accuracy", 0.78, "good"),
        ("bit_accuracy", 1.0, "broken"),
        ("dead_bits", 0.0, "good"),
        ("dead_bits", 0.9, "broken"),
        ("data_wait_share", 0.5, "broken"),
    ],
)
def test_a_value_gets_the_word_of_its_band(metric: str, value: float, verdict: str) -> None:
    band = judge(metric, value)
    assert band is not None
    assert band.verdict == verdict


def test_a_metric_without_bands_is_not_judged() -> None:
    assert judge("loss", 0.3) is None


def test_bands_rise_and_cover_every_value() -> None:
    for bands in BANDS.values():
        assert bands[0].start == float("-inf")
        assert all(a.start < b.start for a, b in pairwise(bands))


def test_the_documentation_has_every_band() -> None:
    text = FIGURES.read_text(encoding="utf-8")
    for metric, bands in BANDS.items():
        for band in bands:
            assert f"{band.verdict}: {band.text}" in text, (metric, band)
