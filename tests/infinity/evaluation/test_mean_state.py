"""Means add up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.mean_state import MeanState

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40)


@given(values, values)
def test_merged_equals_whole(a: list[float], b: list[float]) -> None:
    merged, whole = MeanState.of(a) + MeanState.of(b), MeanState.of(a + b)
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean, abs=1e-9)
    assert merged.standard_error == pytest.approx(whole.standard_error, abs=1e-4)


def test_score_has_the_normal_interval() -> None:
    score = MeanState.of([1.0, 2.0, 3.0, 4.0]).score("a.b", "dB", protocol="p")
    assert (score.value, score.n) == (2.5, 4)
    assert score.low == pytest.approx(2.5 - 1.95996 * math.sqrt(5 / 3 / 4), abs=1e-4)


def test_one_value_has_no_interval() -> None:
    assert MeanState.of([3.0]).score("a.b", "dB", protocol="p").low is None


def test_nothing_and_infinity_are_not_measured() -> None:
    assert MeanState().score("a.b", "dB", protocol="p").value is None
    score = MeanState.of([30.0, math.inf]).score("a.b", "dB", protocol="p")
    assert score.value is None
    assert "infinite" in score.note
    with pytest.raises(ValueError, match="none"):
        _ = MeanState().mean
