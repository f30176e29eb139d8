"""Benchmarks of quantized weights and of search, in miniature: their counts, their budgets, and their lines."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.drawn import quantized
from benchmarks.drawn import search as benchmark
from benchmarks.measuring.scenes import SceneVerdicts, in_words
from infinity import InfinityPipeline
from infinity.generation.drawing.search import SearchConfig
from infinity.generation.sampling import SamplingConfig
from infinity.scenes.drawing import draw_scene
from infinity.scenes.prompts import TASKS, held_out_prompts
from tests.fixtures.data.small_world import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def test_a_drawn_scene_is_right_for_its_caption_alone_and_counts_once() -> None:
    verdicts = SceneVerdicts(2)
    first, *_, last = [prompt for task in TASKS for prompt in held_out_prompts(task)[:2]]
    picture = draw_scene(first, 64, np.random.default_rng(0)).image
    assert verdicts([picture, picture], [first.prompt, last.prompt]) == [1.0, 0.0]
    score = verdicts.score([(caption, float(caption == first.prompt)) for caption in verdicts.captions])
    assert in_words(score).startswith("0.083 (")
    assert score.n == len(verdicts.captions) == 12


@pytest.mark.parametrize("how", [SearchConfig(look_after=2), SearchConfig(shared_scales=2)])
def test_a_search_costs_at_most_its_budget_and_almost_all_of_it(model: str, how: SearchConfig) -> None:
    pipe, sampling = InfinityPipeline.from_pretrained(model, device="cpu"), SamplingConfig(guidance=2.0)
    one = benchmark.flops(pipe, sampling, SearchConfig(candidates=1))
    assert benchmark.flops(pipe, sampling, SearchConfig(candidates=3)) == 3 * one
    config = benchmark.within(pipe, sampling, how, 4 * one)
    assert config is not None
    found = benchmark.flops(pipe, sampling, config)
    more = benchmark.flops(pipe, sampling, config.replace(candidates=config.candidates + 1))
    assert found <= 4 * one < more


def test_the_best_of_the_first_seeds_is_taken() -> None:
    assert [benchmark.best_of({5: 0.0, 3: 0.0, 4: 1.0}, n) for n in (1, 2, 3)] == [0.0, 1.0, 1.0]


def test_a_line_per_method_and_per_kind_of_weights(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["search", model, "--counts", "1", "2", "--per-task", "1"])
    benchmark.main()
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told[:3]] == ["greedy", "best of 1", "best of 2"]
    assert sum(" candidates share " in line for line in told) == 3
    assert all("n = 6)" in line for line in told)
    monkeypatch.setattr(quantized, "_LAYOUTS", ("tiny",))
    monkeypatch.setattr(sys, "argv", ["quantized", model, "--count", "1", "--per-task", "1"])
    quantized.main()
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told[:6]] == [
        "weights float32, cache float32", "weights int8, cache float32", "weights int4, cache float32",
        "weights float8, cache float32", "weights float32, cache int8", "weights int4, cache int8",
    ]  # fmt: skip
    assert "0.0% other bits" in told[0]
    assert "0.0% other bits" not in told[5]
