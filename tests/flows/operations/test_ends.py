"""The last sentence of a run that ends badly: where it stands, and how it goes on."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from flows.operations.ends import GO_ON, command, standing, with_standing
from infinity.jobs.training.base import STATE_FOLDER
from infinity.recipes.runs import EndToEnd, end_to_end


@pytest.fixture
def plan(tmp_path: Path) -> EndToEnd:
    return end_to_end("mini", source=None, output=str(tmp_path))


def store(folder: str, step: int) -> None:
    place = Path(folder, STATE_FOLDER, f"step-{step:08d}")
    place.mkdir(parents=True)
    (place / "COMMITTED").touch()


@pytest.mark.parametrize("stage", ["tokenizer", "pretrain", "finetune"])
@pytest.mark.parametrize("may_pass", [False, True])
def test_a_training_that_has_stored_a_step_says_so_and_goes_on(plan: EndToEnd, stage: str, may_pass: bool) -> None:
    spec = getattr(plan, stage)
    store(spec.folder, 40)
    store(spec.folder, 120)
    assert standing(spec.folder) == "stored at step 120"
    assert with_standing(spec, "it broke", may_pass=may_pass) == f"it broke; stored at step 120; {GO_ON}"


def test_what_is_wrong_with_parameters_is_not_to_be_tried_again(plan: EndToEnd) -> None:
    for spec in (plan.dataset, plan.tokenizer, plan.evaluation):
        assert with_standing(spec, "seed: expected a number") == "seed: expected a number"


def test_what_may_pass_is_to_be_tried_again_by_stages_without_steps_too(plan: EndToEnd) -> None:
    for spec in (plan.dataset, plan.tokenizer, plan.evaluation):
        assert with_standing(spec, "the cluster is gone", may_pass=True) == f"the cluster is gone; {GO_ON}"


def test_the_command_of_the_next_start_survives_a_shell() -> None:
    parameters = {"run": "it's mine", "tokenizer": {"num_steps": 3, "settings": {"a b": None}}, "data": None}
    words = shlex.split(command("train-tokenizer/local", parameters))
    assert words[:4] == ["prefect", "deployment", "run", "train-tokenizer/local"]
    assert words[4::2] == ["--param"] * 3
    assert words[5] == 'run="it\'s mine"'
    assert words[7] == 'tokenizer={"num_steps": 3, "settings": {"a b": null}}'
    assert words[9] == "data=null"
