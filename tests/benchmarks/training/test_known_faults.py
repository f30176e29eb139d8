"""The table of planted faults counts what was said, not what was hoped for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.training.known_faults import CAPTION, COLOUR, FAULTS, HEALTHY, PATCHES, Trial, table, write_scenes
from infinity.diagnosis.findings import REMEDIES
from infinity.scenes.drawing import ScenesConfig, training_scene


def test_every_known_fault_is_planted() -> None:
    assert set(FAULTS) == set(REMEDIES)
    assert set(PATCHES) < set(FAULTS)


@pytest.mark.parametrize(
    ("trial", "right"),
    [
        (Trial(HEALTHY, 0), True),
        (Trial(HEALTHY, 0, departed=True), False),
        (Trial(HEALTHY, 0, early=CAPTION), False),
        (Trial(CAPTION, 0, early=CAPTION, late=COLOUR), False),
        (Trial(CAPTION, 0, late=CAPTION), True),
        (Trial(CAPTION, 0), False),
        (Trial("folding mismatch", 0, refused="model.num_bits: the tokenizer has 8"), True),
    ],
)
def test_a_trial_is_right_where_the_fault_is_said_first_and_health_is_not_doubted(trial: Trial, right: bool) -> None:
    assert trial.is_right is right


def test_the_table_counts_per_fault_and_shows_what_was_said() -> None:
    found = [Trial(CAPTION, 0, early="", late=CAPTION), Trial(CAPTION, 1, early=COLOUR, late=COLOUR)]
    head, faulty, healthy = table([*found, Trial(HEALTHY, 0), Trial(HEALTHY, 1, departed=True)]).splitlines()
    assert head.split()[0] == "planted"
    assert faulty.split()[:4] == ["captions", "shuffled", "1/2", "0/2"]
    assert "captions shuffled, wrong channel order" in faulty
    assert healthy.split() == ["none", "1/2", "-,", "band"]


@pytest.mark.parametrize("fault", [COLOUR, CAPTION])
def test_written_scenes_have_one_fault_and_no_other(fault: str, tmp_path: Path) -> None:
    config = ScenesConfig(count=160, size_px=32)
    write_scenes(tmp_path, fault, config)
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    scenes = [training_scene(config, number) for number in range(160)]
    assert sorted(line["text"] for line in lines) == sorted(scene.prompt.prompt for scene in scenes)
    right = sum(line["text"] == scene.prompt.prompt for line, scene in zip(lines, scenes, strict=True))
    assert right == 160 if fault == COLOUR else right < 20
    for number in (0, 7, 159):
        with Image.open(tmp_path / lines[number]["file_name"]) as image:
            pixels = np.asarray(image)
        expected = scenes[number].image[..., ::-1] if fault == COLOUR else scenes[number].image
        np.testing.assert_array_equal(pixels, expected)
