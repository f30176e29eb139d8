"""Predictions follow from counted work: the slower of card and host decides, and a compiler leaves a share of both."""

import pytest

from benchmarks.gpu.cases import cases
from benchmarks.gpu.predicting import (
    BYTES_PER_S,
    COPY_S,
    FLOAT32_FLOPS,
    GRAPHED_LAUNCH_S,
    HOST_BYTES_PER_S,
    LAUNCH_S,
    REACHED,
    TF32_FLOPS,
    at_depth,
    fusion,
    predict,
    seconds_of,
)
from infinity.presets import transformer_preset

WORK = {"launches": 10, "moved": 4.8e12, "products": {"bfloat16": 0.0}, "attention": {}}


def test_bytes_decide_where_launches_are_few() -> None:
    assert seconds_of(WORK) == pytest.approx(4.8e12 / (REACHED["bytes"] * BYTES_PER_S))


def test_launches_decide_where_kernels_are_small() -> None:
    assert seconds_of(WORK | {"launches": 10**6, "moved": 1}) == pytest.approx(10**6 * LAUNCH_S)


def test_a_captured_graph_saves_the_wait_for_the_host_and_nothing_of_the_cards_own_work() -> None:
    many = WORK | {"launches": 10**6, "moved": 1}
    assert seconds_of(many, graphed=True) == pytest.approx(10**6 * GRAPHED_LAUNCH_S)
    assert seconds_of(WORK, graphed=True) == seconds_of(WORK)


def test_a_compiler_leaves_the_share_that_was_counted() -> None:
    left = fusion({"eager": {"launches": 44, "moved": 40}, "compiled": {"launches": 11, "moved": 30}})
    assert left == {"launches": 0.25, "moved": 0.75}
    assert seconds_of(WORK, left) == pytest.approx(0.75 * seconds_of(WORK))


def test_two_depths_give_every_depth() -> None:
    one, two = {"moved": 5, "products": {"bfloat16": 1}}, {"moved": 7, "products": {"bfloat16": 4}}
    assert at_depth(one, two, 10) == {"moved": 23, "products": {"bfloat16": 28}}


def test_convolutions_in_float32_are_counted_at_the_rate_of_tf32() -> None:
    products = WORK | {"moved": 1, "products": {"float32": 1e12}}
    assert seconds_of(products) == pytest.approx(1e12 / (REACHED["products"] * FLOAT32_FLOPS), rel=1e-3)
    both = products | {"convolutions": {"float32": 0.75e12}}
    expected = 0.25e12 / FLOAT32_FLOPS + 0.75e12 / TF32_FLOPS
    assert seconds_of(both) == pytest.approx(expected / REACHED["products"], rel=1e-3)


def test_a_save_waits_for_all_bytes_and_tensors() -> None:
    case = next(case for case in cases() if case.group == "save")
    depth = transformer_preset(case.model).depth
    work = {"save:2B:1": {"copied": 5e9, "tensors": 10}, "save:2B:2": {"copied": 6e9, "tensors": 13}}
    copied, tensors = 5e9 + (depth - 1) * 1e9, 10 + (depth - 1) * 3
    found = predict(case, work)
    assert found["seconds"] == pytest.approx(copied / HOST_BYTES_PER_S + tensors * COPY_S)
    assert found["copied_gb"] == pytest.approx(copied / 1e9)


def test_compiled_blocks_keep_more_beside_the_eager_peak() -> None:
    plain, compiled = (next(c for c in cases() if c.key == f"train/1024{kind}") for kind in ("", "-compiled"))
    one, depth = WORK | {"peak": 10e9}, transformer_preset(plain.model).depth
    counts = {"launches": 2, "moved": 2}
    work = {
        "train:2B:1": one,
        "train:2B:2": one,
        "compiled-train:2B:1": {"eager": counts, "compiled": counts, "kept": 5e8},
    }
    assert predict(plain, work)["memory_gb"] == pytest.approx(10)
    assert predict(compiled, work)["memory_gb"] == pytest.approx(10 + 0.5 * depth)
