"""The nightly evaluation takes a model that is finished, or ends with a sentence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import evaluate as evaluate_module
from flows.evaluate import evaluate
from flows.records.models import newest_model, note_model
from flows.records.plan import new_plan, save_plan
from flows.stages import kinds
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.upkeep.inventory import MODELS_FILE
from infinity.jobs.upkeep.plans import finished_models
from infinity.recipes.runs import EndToEnd


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "run")


@pytest.fixture
def plan(folder: str) -> EndToEnd:
    plan = new_plan("mini", None, folder)
    save_plan(plan, folder)
    return plan


def finished(model: str) -> str:
    """A model folder that is whole."""
    Path(model).mkdir(parents=True)
    (Path(model) / "COMMITTED").write_text("0123456789abcdef\n")
    return model


def pretrained(plan: EndToEnd) -> str:
    return f"{plan.pretrain.folder}/{MODEL_FOLDER}"


def test_the_model_of_the_plan_comes_first(plan: EndToEnd, folder: str) -> None:
    note_model(folder, finished(f"{folder}/older/model"))
    finished(pretrained(plan))
    finished(plan.evaluation.model)
    assert newest_model(plan, folder) == plan.evaluation.model


def test_while_the_model_of_the_plan_is_trained_the_newest_finished_one_is_taken(plan: EndToEnd, folder: str) -> None:
    older, newer = finished(f"{folder}/older/model"), finished(f"{folder}/newer/model")
    note_model(folder, older)
    note_model(folder, newer)
    assert newest_model(plan, folder) == newer
    note_model(folder, older)
    assert finished_models(folder) == [newer, older]
    assert newest_model(plan, folder) == older


def test_a_run_of_an_older_version_has_its_pretrained_model(plan: EndToEnd, folder: str) -> None:
    assert newest_model(plan, folder) is None
    assert newest_model(plan, folder) is None
    model = finished(pretrained(plan))
    assert newest_model(plan, folder) == model


def test_a_model_whose_run_died_before_it_could_tell_is_told_by_the_next_run_and_only_once(
    plan: EndToEnd, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a SIGKILL between the end of a training and the word of it: the stage is done at the next start."""
    told, model = list[str](), finished(pretrained(plan))
    report = SimpleNamespace(model=model)
    monkeypatch.setattr(kinds, "training_stage", lambda stage, spec: report)
    monkeypatch.setattr(kinds, "announce_model", lambda run, model: told.append(model))
    Path(plan.pretrain.folder, "report.json").write_text("{}")
    for _ in range(2):
        kinds.announced_training(folder, "pretrain", plan.pretrain)
        assert told == [model]
        assert finished_models(folder) == [model]
    Path(plan.pretrain.folder, "report.json").unlink()  # it was removed, and is trained again
    kinds.announced_training(folder, "pretrain", plan.pretrain)
    assert told == [model, model]


def test_a_damaged_list_of_models_is_refused(plan: EndToEnd, folder: str) -> None:
    Path(folder, MODELS_FILE).write_text('{"a": 1}')
    with pytest.raises(ValueError, match="expected a list of model folders"):
        newest_model(plan, folder)


@pytest.mark.prefect
def test_a_run_whose_first_model_is_still_trained_has_nothing_to_evaluate(
    prefect_server: str, plan: EndToEnd, folder: str
) -> None:
    state = evaluate(run=folder, return_state=True)
    assert state.is_completed()
    assert state.name == "Skipped"
    assert "no model of run" in str(state.message)


@pytest.mark.prefect
def test_a_schedule_without_a_run_has_nothing_to_evaluate_and_a_person_gets_an_error(
    prefect_server: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = evaluate(run=folder, return_state=True)
    assert state.is_failed()
    assert "begin it with the flow build-dataset" in str(state.message)
    monkeypatch.setattr(evaluate_module, "_nobody_named", lambda run: True)
    state = evaluate(run=folder, return_state=True)
    assert state.is_completed()
    assert "there is no run" in str(state.message)


@pytest.mark.prefect
def test_nobody_named_the_run_that_a_schedule_began(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow

    @flow(name="whose-shift")
    def whose_shift() -> bool:
        from prefect.context import FlowRunContext

        found = [evaluate_module._nobody_named("somebody's")]
        context: Any = FlowRunContext.get()
        context.flow_run.auto_scheduled = True
        found.append(evaluate_module._nobody_named("somebody's"))
        return found == [False, True]

    assert whose_shift()
