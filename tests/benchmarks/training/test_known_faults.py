"""The table of planted faults counts what was said, not what was hoped for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.training import known_faults
from benchmarks.training.known_faults import (
    CAPTION,
    COLOUR,
    FAULTS,
    HEALTHY,
    PATCHES,
    RECORD,
    Trial,
    is_decided,
    ordered,
    table,
    told,
    write_scenes,
)
from infinity.diagnosis.diagnose import Diagnosis
from infinity.diagnosis.findings import REMEDIES, LikelyCause
from infinity.diagnosis.weights import rounded_share
from infinity.jobs.progress import Progress, ProgressSink, silent, unfailing
from infinity.jobs.training import transformer as training
from infinity.recipes.runs import end_to_end
from infinity.scenes.drawing import ScenesConfig, training_scene
from infinity.training.distributed.parallel import ProcessGroup


def test_every_known_fault_is_planted() -> None:
    assert set(FAULTS) == set(REMEDIES)
    assert set(PATCHES) < set(FAULTS)


@pytest.mark.parametrize(
    ("trial", "right"),
    [
        (Trial(HEALTHY, 0), True),
        (Trial(HEALTHY, 0, departed=True), False),
        (Trial(HEALTHY, 0, early=CAPTION), False),
        (Trial(HEALTHY, 0, found=27), False),
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
    assert faulty.split()[:6] == ["captions", "shuffled", "1/2", "0/2", "-,-", "-,-"]
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


def look(step: int, *causes: str, departures: tuple[str, ...] = ()) -> Diagnosis:
    findings = tuple(LikelyCause(cause=cause, certainty=0.5, evidence="") for cause in causes)
    return Diagnosis(
        folder="", step=step, num_steps=450, reference="", departures=departures, findings=findings, looked_at=("x",),
        not_judged=(),
    )  # fmt: skip


def test_a_trial_tells_the_rank_of_its_fault_and_the_step_at_which_it_was_named_first() -> None:
    trial = told(CAPTION, 0, [look(27), look(45, COLOUR), look(158, CAPTION, COLOUR), look(450, COLOUR, CAPTION)])
    assert (trial.early, trial.late, trial.rank, trial.found, trial.steps) == (COLOUR, COLOUR, 2, 158, 450)
    assert not trial.is_right
    assert told(HEALTHY, 0, [look(27, departures=("loss",)), look(45)]).found == 27
    assert told(HEALTHY, 0, [look(27), look(45)]).is_right


def test_a_trial_is_decided_once_its_fault_is_first_and_a_healthy_one_after_a_tenth() -> None:
    assert is_decided(CAPTION, [look(27, CAPTION)])
    assert not is_decided(CAPTION, [look(27, COLOUR, CAPTION)])
    assert not is_decided(HEALTHY, [look(27)])
    assert is_decided(HEALTHY, [look(27), look(45)])


def test_every_fault_gets_its_first_seed_before_any_gets_its_second() -> None:
    assert ordered({"a": 2, "b": 1, "c": 2}, 7) == [("a", 7), ("b", 7), ("c", 7), ("a", 8), ("c", 8)]
    assert ordered({}, 7) == []


def test_a_stopped_benchmark_goes_on_and_repeats_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, int]] = []

    def trial(_: object, fault: str, seed: int, **__: object) -> Trial:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((fault, seed))
        return Trial(fault, seed, late=fault)

    monkeypatch.setattr(known_faults, "run_trial", trial)
    options = ["known_faults", "--work", str(tmp_path), "--only", CAPTION, COLOUR, "--first-seed", "1"]
    monkeypatch.setattr(sys, "argv", options)
    with pytest.raises(KeyboardInterrupt):
        known_faults.main()
    first, ran[:] = ran[:], []
    assert len(json.loads((tmp_path / RECORD).read_text())) == 3
    known_faults.main()
    assert sorted(first + ran) == sorted((fault, seed) for fault in (CAPTION, COLOUR) for seed in (1, 2))
    ran.clear()
    known_faults.main()
    assert ran == []
    monkeypatch.setattr(sys, "argv", [*options, "--again", "--seeds", "1"])
    known_faults.main()
    assert len(ran) == 2


def test_a_trial_ends_where_it_is_decided_and_an_error_of_its_diagnosis_is_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listeners of a job may fail without ending it; a decided trial ends it all the same."""
    steps = list(range(9))

    def train(_: object, *, progress: ProgressSink = silent) -> None:
        for _ in range(3):
            unfailing(progress)(Progress(0.0, ""))
        raise AssertionError("the training went on")

    looks = [look(2), look(3, "learning rate too low")]
    monkeypatch.setattr(known_faults, "run_spec", lambda spec, **given: train(spec, **given) if given else None)
    monkeypatch.setattr(known_faults, "_logged", lambda _: steps.pop(0))
    monkeypatch.setattr(known_faults, "diagnose", lambda _: looks.pop(0))
    trials = known_faults.Trials(str(tmp_path), 900)
    trial = known_faults.run_trial(trials, "learning rate too low", 900, stop=True)
    assert (trial.found, trial.steps, trial.is_right) == (3, 3, True)
    with pytest.raises(IndexError):
        known_faults.run_trial(trials, "learning rate too high", 900, stop=True)


def test_a_patched_training_rounds_its_weights_or_freezes_its_blocks() -> None:
    """The patches replace functions of the training, whose arguments may change."""
    spec = end_to_end("mini", source=None, output="run").pretrain
    tokenizer = end_to_end("mini", source=None, output="run").tokenizer.model
    for fault, patch in PATCHES.items():
        with patch():
            transformer = training._transformer(spec)
            state, _ = training.make_state_and_task(spec, transformer, tokenizer, ProcessGroup(), torch.device("cpu"))
        frozen = [name for name, weight in transformer.named_parameters() if not weight.requires_grad]
        assert bool(frozen) == (fault == "frozen weights")
        for weight in transformer.parameters():
            weight.grad = torch.full_like(weight, 1e-3) if weight.requires_grad else None
        state.optimizer.step()
        weights = {name: weight.detach() for name, weight in transformer.named_parameters()}
        assert (rounded_share(weights) == 1.0) == (fault == "bf16 master weights")
