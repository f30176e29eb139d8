"""GenEval over drawn scenes: right pictures are right, pictures of other captions are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infinity.data.images.contact_sheet import encode_png
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder, PromptItem, PromptSample
from infinity.scenes.drawing import draw_scene
from infinity.scenes.prompts import TASKS, held_out_prompts
from tests.fixtures.data.small_world import values


def write_scenes(folder: Path, number: int, shift: int = 0) -> list[PromptItem]:
    """One new picture for each of the first held-out captions of every task, ``shift`` captions too late."""
    random = np.random.default_rng(0)
    prompts = [prompt for task in TASKS for prompt in held_out_prompts(task)[:number]]
    pictures = [draw_scene(prompt, 48, random).image for prompt in prompts]
    for place, prompt in enumerate(prompts):
        path = folder / prompt.prompt / "samples" / "0000.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_png(pictures[(place + shift) % len(pictures)]))
    return list(SceneBenchmark(prompts_per_task=number).items())


def judged(folder: Path, items: list[PromptItem]) -> BenchmarkResult:
    benchmark = SceneBenchmark(pictures_per_prompt=1)
    samples: list[PromptSample] = benchmark.find(PictureFolder(uri=str(folder)), items)
    records = benchmark.judge(Networks("cpu"))(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def test_freshly_drawn_pictures_are_right_and_those_of_other_captions_are_not(tmp_path: Path) -> None:
    right = judged(tmp_path / "a", write_scenes(tmp_path / "a", 5))
    wrong = judged(tmp_path / "b", write_scenes(tmp_path / "b", 5, shift=7))
    assert values(right.scores)["scene_geneval.overall"] >= 0.99
    assert values(wrong.scores)["scene_geneval.overall"] <= 0.15


def test_outcome_has_a_figure_a_sheet_and_records_of_every_task(tmp_path: Path) -> None:
    result = judged(tmp_path, write_scenes(tmp_path, 2))
    found = values(result.scores)
    assert list(found) == ["scene_geneval.overall", *(f"scene_geneval.{t}" for t in TASKS), "scene_geneval.prompts"]
    assert found["scene_geneval.prompts"] == 12
    assert set(result.sheets) == {f"samples.{task}" for task in TASKS}
    assert result.sheets["samples.counting"].captions[0].endswith("(1 of 1 right)")
    (records,) = result.records.values()
    assert len(records) == 12
    assert records[0]["correct"] is True


def test_a_missing_picture_is_counted_and_named_in_every_figure(tmp_path: Path) -> None:
    items = write_scenes(tmp_path, 2)
    (tmp_path / items[3].id / "samples" / "0000.png").unlink()
    result = judged(tmp_path, items)
    figures = [score for score in result.scores if score.metric != "scene_geneval.prompts"]
    assert result.scores[0].n == 11
    for score in figures:
        assert score.note.startswith("INCOMPLETE: 1 of 12 pictures could not be scored and are in no mean"), score
    assert sum("missing" in line for line in result.records["scene_verdicts.jsonl"]) == 1


def test_every_held_out_caption_is_asked() -> None:
    assert [item.prompt for item in SceneBenchmark().items()] == [prompt.prompt for prompt in held_out_prompts()]


def test_more_captions_than_are_held_out_may_be_asked_and_the_protocol_says_so(tmp_path: Path) -> None:
    benchmark = SceneBenchmark(captions="all", prompts_per_task=50)
    samples = [item.prompt for item in benchmark.items()]
    assert len(samples) == len(set(samples)) == 240
    assert [prompt for prompt in samples if prompt in {p.prompt for p in held_out_prompts()}] == [
        prompt.prompt for prompt in held_out_prompts()
    ]
    items = write_scenes(tmp_path, 1)
    found = [replace(benchmark, pictures_per_prompt=1).find(PictureFolder(uri=str(tmp_path)), items)]
    records = benchmark.judge(Networks("cpu"))(found[0], [one.pictures() for one in found[0]])
    result = benchmark.summarize(JudgedPrompts(samples=tuple(found[0]), records=tuple(records)))
    assert "trained ones" in result.scores[0].protocol
    assert SceneBenchmark().identity().keys() == SceneBenchmark().to_json().keys() - {"captions", "best_of"}


@pytest.mark.parametrize(
    "make", [lambda: SceneBenchmark(pictures_per_prompt=0), lambda: SceneBenchmark(prompts_per_task=0)]
)
def test_senseless_settings_are_refused(make: type) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()
