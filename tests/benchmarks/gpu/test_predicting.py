"""Predictions follow from counted work: the slower of card and host decides, and a compiler leaves a share of both."""

import pytest

from benchmarks.gpu.predicting import BYTES_PER_S, LAUNCH_S, REACHED, at_depth, fusion, seconds_of

WORK = {"launches": 10, "moved": 4.8e12, "products": {"bfloat16": 0.0}, "attention": {}}


def test_bytes_decide_where_launches_are_few() -> None:
    assert seconds_of(WORK) == pytest.approx(4.8e12 / (REACHED["bytes"] * BYTES_PER_S))


def test_launches_decide_where_kernels_are_small() -> None:
    assert seconds_of(WORK | {"launches": 10**6, "moved": 1}) == pytest.approx(10**6 * LAUNCH_S)


def test_a_compiler_leaves_the_share_that_was_counted() -> None:
    left = fusion({"eager": {"launches": 44, "moved": 40}, "compiled": {"launches": 11, "moved": 30}})
    assert left == {"launches": 0.25, "moved": 0.75}
    assert seconds_of(WORK, left) == pytest.approx(0.75 * seconds_of(WORK))


def test_two_depths_give_every_depth() -> None:
    one, two = {"moved": 5, "products": {"bfloat16": 1}}, {"moved": 7, "products": {"bfloat16": 4}}
    assert at_depth(one, two, 10) == {"moved": 23, "products": {"bfloat16": 28}}
