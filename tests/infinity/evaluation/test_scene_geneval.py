"""GenEval over drawn scenes: right pictures are right, pictures of other captions are not."""

from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest

from infinity.data.manifest import Manifest
from infinity.data.scene_prompts import TASKS, held_out_prompts
from infinity.data.scenes import draw_scene
from infinity.evaluation.measure import Material
from infinity.evaluation.scene_geneval import SceneMeasure, ScenePart, SceneState

from .small_world import subject, values, write_data, write_model


def drawn_scenes(number: int, seed: int = 0) -> np.ndarray:
    """One new picture for each of the first held-out captions of every task."""
    random = np.random.default_rng(seed)
    prompts = [prompt for task in TASKS for prompt in held_out_prompts(task)[:number]]
    return np.stack([draw_scene(prompt, 48, random).image for prompt in prompts])


def state_of(pictures: np.ndarray, number: int) -> SceneState:
    prompts = tuple(prompt for task in TASKS for prompt in held_out_prompts(task)[:number])
    part = ScenePart(prompts=prompts, shown=(True,) * len(prompts), pictures_per_prompt=1)
    return part.judge(pictures, [0] * len(prompts))


def test_freshly_drawn_pictures_are_right_and_those_of_other_captions_are_not() -> None:
    pictures = drawn_scenes(5)
    assert state_of(pictures, 5).counts.overall >= 0.99
    assert state_of(np.roll(pictures, 7, axis=0), 5).counts.overall <= 0.15


def test_outcome_has_a_figure_a_sheet_and_records_of_every_task() -> None:
    outcome = SceneMeasure(pictures_per_prompt=1).outcome(state_of(drawn_scenes(2), 2))
    found = values(outcome.scores)
    assert list(found) == ["scene_geneval.overall", *(f"scene_geneval.{t}" for t in TASKS), "scene_geneval.prompts"]
    assert found["scene_geneval.prompts"] == 12
    assert set(outcome.sheets) == {f"samples.{task}" for task in TASKS}
    assert outcome.sheets["samples.counting"].captions[0].endswith("(1 of 1 right)")
    (records,) = outcome.records.values()
    assert len(records) == 12
    assert records[0]["correct"] is True


def test_every_held_out_caption_is_drawn_as_often_as_asked(tmp_path: Path) -> None:
    world = subject("model", "manifest", batch_size=30)
    manifest = Manifest.load(write_data(tmp_path))
    parts = SceneMeasure(pictures_per_prompt=4).parts(world, manifest)
    assert sum(part.num_pictures for part in parts) == 4 * len(held_out_prompts()) >= 480
    assert [prompt for part in parts for prompt in part.prompts] == list(held_out_prompts())
    assert max(part.num_pictures for part in parts) <= 30


@pytest.mark.parametrize("batch_size", [6])
def test_model_is_judged_the_same_in_other_parts(tmp_path: Path, batch_size: int) -> None:
    model, data = write_model(tmp_path), write_data(tmp_path / "data")
    outcomes = []
    for size in (batch_size, 1):
        material = Material(subject(model, data, batch_size=size))
        measure = SceneMeasure(pictures_per_prompt=2, prompts_per_task=1, num_shown=1)
        parts = measure.parts(material.subject, material.manifest)
        outcomes.append(measure.outcome(reduce(add, [part.compute(material) for part in parts])))
    assert outcomes[0].scores == outcomes[1].scores
    assert outcomes[0].records == outcomes[1].records
