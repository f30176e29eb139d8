"""Drawn scenes: the same on every machine, never overlapping, and written in the common image-folder form."""

import hashlib
import json
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.scenes.drawing import (
    BACKGROUND,
    Scene,
    SceneObject,
    ScenesConfig,
    coverage,
    draw_scene,
    draw_scenes,
    render,
    write_scenes,
)
from infinity.scenes.prompts import COLORS, PLURALS, TASKS, all_prompts, held_out_prompts


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(draw_scenes(ScenesConfig(count=120, size_px=48, seed=3)))


def test_equal_configs_draw_equal_pictures_and_seeds_differ() -> None:
    def digest(seed: int, count: int) -> str:
        scenes = islice(draw_scenes(ScenesConfig(count=count, size_px=48, seed=seed)), 10)
        return hashlib.sha256(b"".join(scene.image.tobytes() for scene in scenes)).hexdigest()

    assert digest(0, 10) == digest(0, 5000)
    assert digest(0, 10) != digest(1, 10)


def test_no_training_scene_carries_a_held_out_caption(scenes: list[Scene]) -> None:
    assert not {scene.prompt.prompt for scene in scenes} & {prompt.prompt for prompt in held_out_prompts()}
    assert {scene.prompt.task for scene in scenes} == set(TASKS)


def test_no_two_pictures_are_alike(scenes: list[Scene]) -> None:
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


def test_objects_never_touch_nor_leave_the_picture() -> None:
    random = np.random.default_rng(0)
    for task in TASKS:
        for prompt in all_prompts(task)[:: max(1, len(all_prompts(task)) // 40)]:
            scene = draw_scene(prompt, 48, random)
            covers = [coverage(item.shape, item.center_px, item.size_px, 48) for item in scene.objects]
            assert all(np.minimum(a, b).max() == 0 for a, b in combinations(covers, 2)), prompt.prompt
            for item in scene.objects:
                assert all(item.size_px / 2 <= c <= 48 - item.size_px / 2 for c in item.center_px)


def test_a_scene_holds_what_its_caption_asks_for(scenes: list[Scene]) -> None:
    for scene in scenes:
        for entry in scene.prompt.include:
            matching = [
                item for item in scene.objects if item.shape == entry.shape and entry.color in (None, item.color)
            ]
            assert len(matching) == entry.count
        assert len(scene.objects) == sum(entry.count for entry in scene.prompt.include)


@pytest.mark.parametrize("shape", PLURALS)
def test_area_of_a_shape_does_not_depend_on_where_it_lies(shape: str) -> None:
    areas = [coverage(shape, (24 + dx, 24 + dy), 18, 48).sum() for dx in (0, 0.3, 0.5) for dy in (0, 0.7)]
    assert np.ptp(areas) < 0.02 * np.mean(areas)


def test_edges_are_smooth_and_the_inside_has_the_exact_colour() -> None:
    image = render([SceneObject(shape="circle", color="blue", center_px=(24.3, 24.0), size_px=18)], 48)
    assert tuple(image[24, 24]) == COLORS["blue"]
    assert tuple(image[0, 0]) == BACKGROUND
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_a_shape_beyond_the_border_is_cut_off() -> None:
    assert coverage("square", (0, 24), 20, 48).sum() == pytest.approx(
        coverage("square", (24, 24), 20, 48).sum() / 2, rel=0.02
    )
    assert coverage("square", (-100, 24), 20, 48).sum() == 0


def test_written_folder_has_pictures_and_rows_in_the_common_form(tmp_path: Path) -> None:
    config = ScenesConfig(count=5, size_px=32)
    write_scenes(config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, scene in zip(rows, draw_scenes(config), strict=True):
        assert row["text"] == scene.prompt.prompt
        assert row["tag"] == scene.prompt.task
        assert np.array_equal(np.asarray(Image.open(tmp_path / row["file_name"])), scene.image)


@pytest.mark.parametrize(("field", "value"), [("count", 0), ("size_px", 16)])
def test_impossible_configs_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"ScenesConfig.{field}.*got {value}"):
        ScenesConfig(**{"count": 1, field: value})
