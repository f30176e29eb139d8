"""A prompt counts once, however often a list names it."""

from __future__ import annotations

import numpy as np
import pytest

from infinity.evaluation.promotion.gate import GateError, ScoredModel, compare
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.promotion.repeated_prompts import one_item_per_prompt
from infinity.evaluation.score import Score

METRIC = "geneval.overall"


def test_equal_prompts_of_a_benchmark_are_one_item_with_their_mean() -> None:
    items = {METRIC: {"b": 1.0, "a": 0.0, "c": 0.25}, "geneval_corrected.overall": {"a": 0.5, "b": 1.0}}
    prompts = {("geneval", "a"): "a cat", ("geneval", "b"): "a cat", ("geneval", "c"): "a dog"}
    assert one_item_per_prompt(items, prompts) == {
        METRIC: {"a": 0.5, "c": 0.25},
        "geneval_corrected.overall": {"a": 0.75},
    }


def test_without_repeats_and_without_prompts_nothing_changes() -> None:
    items = {METRIC: {"a": 0.1, "b": None}, "reconstruction.psnr_db": {"a": 30.0, "b": 31.0}}
    prompts = {("geneval", "a"): "a cat", ("geneval", "b"): "a dog", ("dpg", "a"): "a cat", ("dpg", "b"): "a cat"}
    assert one_item_per_prompt(items, prompts) == items
    assert one_item_per_prompt(items, {}) == items


def test_an_item_with_a_part_without_value_has_none() -> None:
    prompts = {("geneval", name): "a cat" for name in "ab"}
    assert one_item_per_prompt({METRIC: {"a": 1.0, "b": None}}, prompts) == {METRIC: {"a": None}}


def model(digest: str, values: np.ndarray, prompts: dict[tuple[str, str], str]) -> ScoredModel:
    items = {METRIC: {f"{number:05d}": float(value) for number, value in enumerate(values)}}
    score = Score(metric=METRIC, value=float(values.mean()), unit="share", n=len(values), protocol="p")
    merged = one_item_per_prompt(items, prompts)
    return ScoredModel(model=digest, digest=digest, setting="s", scores={METRIC: score}, items=merged)


def test_a_list_that_is_written_down_many_times_blocks_no_more_unchanged_models_than_the_promise() -> None:
    random, blocks = np.random.default_rng(7), 0
    prompts = {("geneval", f"{number:05d}"): f"prompt {number % 20}" for number in range(500)}
    for _ in range(60):  # every prompt has a gain of its own, zero on average; the list comes 25 times in a row
        gains = np.tile(random.normal(0, 0.3, 20), 25) + random.normal(0, 0.05, 500)
        old, new = model("a", np.full(500, 0.5), prompts), model("b", 0.5 + gains, prompts)
        report = compare(old, new, GateConfig(num_resamples=1000))
        assert report.comparisons[0].n == 20
        blocks += report.decision == "block"
    assert blocks <= 6  # 39 % of them without merging


def test_one_prompt_written_down_300_times_decides_nothing() -> None:
    prompts = {("geneval", f"{number:05d}"): "a cat" for number in range(300)}
    report = compare(model("a", np.zeros(300), prompts), model("b", np.ones(300), prompts), GateConfig())
    assert (report.decision, report.comparisons[0].n) == ("undecided", 1)


def test_models_with_different_prompts_behind_their_items_are_refused() -> None:
    same = {("geneval", f"{number:05d}"): "a cat" for number in range(20)}
    with pytest.raises(GateError, match="measured on different items"):
        compare(model("a", np.zeros(20), same), model("b", np.ones(20), {}), GateConfig())


def test_corrected_rules_count_the_prompts_of_their_benchmark_rewritten_or_not() -> None:
    for name, metric in (("dpg", "dpg_corrected.overall"), ("dpg_rewritten", "dpg_corrected_rewritten.overall")):
        prompts = {(name, item): "a cat" for item in "ab"}
        assert one_item_per_prompt({metric: {"a": 1.0, "b": 0.0}}, prompts) == {metric: {"a": 0.5}}
