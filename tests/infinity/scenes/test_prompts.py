"""Captions of drawn scenes: GenEval's form, and a split that keeps evaluation captions out of training."""

import json
from pathlib import Path

import pytest

from infinity.evaluation.geneval.scoring import GenevalPrompt
from infinity.scenes.drawing import BACKGROUND
from infinity.scenes.prompts import (
    COLORS,
    NUM_HELD_OUT,
    PLURALS,
    TASKS,
    ScenePrompt,
    Task,
    all_prompts,
    held_out_prompts,
    training_prompts,
    with_article,
)


def test_at_least_120_captions_over_six_tasks_are_held_out() -> None:
    prompts = held_out_prompts()
    assert len(prompts) == len({prompt.prompt for prompt in prompts}) == sum(NUM_HELD_OUT.values()) >= 120
    assert {prompt.task for prompt in prompts} == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_held_out_caption_is_never_a_training_caption(task: Task) -> None:
    training = {prompt.prompt for each in TASKS for prompt in training_prompts(each)}
    assert training_prompts(task)
    assert not training & {prompt.prompt for prompt in held_out_prompts(task)}


@pytest.mark.parametrize("task", ["two_object", "color_attr"])
def test_the_other_order_of_a_held_out_pair_is_no_training_caption(task: Task) -> None:
    def objects(prompt: ScenePrompt) -> frozenset[tuple[str | None, str]]:
        return frozenset((entry.color, entry.shape) for entry in prompt.include)

    training = {objects(prompt) for prompt in training_prompts(task)}
    assert not training & {objects(prompt) for prompt in held_out_prompts(task)}


def test_every_shape_and_colour_of_held_out_captions_occurs_in_training() -> None:
    training = [entry for task in TASKS for prompt in training_prompts(task) for entry in prompt.include]
    assert {entry.shape for entry in training} == set(PLURALS)
    assert {entry.color for entry in training if entry.color} == set(COLORS)


def test_training_shows_two_of_the_three_counts_of_every_shape() -> None:
    shapes = [prompt.include[0].shape for prompt in training_prompts("counting")]
    assert sorted(shapes) == sorted([*PLURALS, *PLURALS])


@pytest.mark.parametrize("task", TASKS)
def test_metadata_is_read_and_written_back_by_the_scorer(task: Task) -> None:
    for prompt in all_prompts(task)[:200]:
        assert GenevalPrompt.from_metadata(prompt.metadata()).to_metadata() == prompt.metadata()


@pytest.mark.reference
def test_metadata_has_the_fields_and_captions_the_wording_of_the_published_prompts(shared: Path) -> None:
    """A published line with our nouns in it is the caption that we write for the same requirements."""
    lines = (shared / "bench/geneval/evaluation_metadata.jsonl").read_text(encoding="utf-8").splitlines()
    for task in TASKS:
        published = next(line for line in map(json.loads, lines) if line["tag"] == task)
        ours = all_prompts(task)[0].metadata()
        assert list(ours) == list(published)
        assert [list(entry) for entry in ours["include"]] == [list(entry) for entry in published["include"]]
        assert ours["prompt"].startswith("a photo of ")


def test_captions_of_each_task_read_like_the_benchmark() -> None:
    assert [all_prompts(task)[0].prompt for task in TASKS] == [
        "a photo of a circle",
        "a photo of a circle and a square",
        "a photo of two circles",
        "a photo of a red circle",
        "a photo of a circle left of a square",
        "a photo of a red circle and an orange square",
    ]
    position = all_prompts("position")[0].metadata()["include"]
    assert position == [{"class": "square", "count": 1}, {"class": "circle", "count": 1, "position": ["left of", 0]}]


def test_nouns_get_the_right_article() -> None:
    assert with_article("arrow") == "an arrow"
    assert with_article("red arrow") == "a red arrow"


def test_colours_are_far_from_each_other_and_from_the_background() -> None:
    values = [*COLORS.values(), BACKGROUND]
    distances = {
        (i, j): sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
        for i, a in enumerate(values)
        for j, b in enumerate(values)
        if i < j
    }
    assert min(distances.values()) >= 70
    assert min(d for (_, j), d in distances.items() if j == len(COLORS)) >= 90
