"""Edits of drawn scenes: one object changes, its mask covers it alone, and the verdict tells done from not done."""

import numpy as np
import pytest

from benchmarks.drawn.scene_edits import KINDS, TASKS, changes, drawn_edits, shows
from infinity.scenes.drawing import coverage, draw_scene
from infinity.scenes.prompts import Task, all_prompts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_one_object_changes_and_its_mask_covers_it_alone(kind: str, task: Task) -> None:
    for edit in drawn_edits(kind, task, 10, 48, seed=3):
        assert changes(edit.scene.prompt, edit.wanted) == [(edit.place, kind)]
        mask = edit.mask(margin_px=1.0)
        for index, item in enumerate(edit.scene.objects):
            inked = coverage(item.shape, item.center_px, item.size_px, 48) > 0
            assert mask[inked].all() if index == edit.place else not mask[inked].any()


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_picture_that_shows_the_new_caption_counts(kind: str) -> None:
    for edit in drawn_edits(kind, "color_attr", 10, 48, seed=4):
        assert not shows(edit.scene.image, edit.wanted)
        assert shows(draw_scene(edit.wanted, 48, np.random.default_rng(0)).image, edit.wanted)


def test_all_changes_are_named() -> None:
    first, last = all_prompts("colors")[0], all_prompts("colors")[-1]
    assert changes(first, last) == [(0, "colour"), (0, "shape")]
    assert changes(first, first) == []
