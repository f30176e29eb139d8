"""The whole pipeline in miniature: it runs, shows itself, and does nothing twice."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from flows.end_to_end import end_to_end
from flows.evaluate import evaluate
from flows.finetune import finetune
from flows.forms.parameters import EvaluationForm, FinetuneForm
from flows.pretrain import pretrain
from flows.records.plan import STAGES, load_plan, save_plan
from infinity import run_spec
from infinity.checkpoint import load_checkpoint
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.cluster.connection import in_process
from tests.fixtures.servers.prefect_api import ask
from tests.flows.conftest import MiniRun

pytestmark = [pytest.mark.prefect, pytest.mark.ray, pytest.mark.slow]


def _stages(api: str, flow_run: str) -> dict[str, str]:
    runs = ask(api, "task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
    assert len(runs) <= len(STAGES)  # one per stage, however many rows it has
    return {run["name"]: run["state"]["name"] for run in runs}


def _artifacts(api: str, flow_run: str) -> dict[str, Any]:
    found = ask(api, "artifacts/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
    return {artifact["key"]: artifact for artifact in found}


def _run_again(mini_run: MiniRun, **parameters: Any) -> str:
    state = end_to_end(run=str(mini_run.folder), recipe="mini", return_state=True, **parameters)
    assert state.is_completed(), state.message
    return str(state.state_details.flow_run_id)


def test_the_report_has_every_promised_figure(mini_run: MiniRun) -> None:
    figures = json.loads((mini_run.folder / "report.json").read_text())
    tasks = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
    promised = ["scene_geneval.overall", *(f"scene_geneval.{task}" for task in tasks), "scene_geneval.prompts"]
    promised += ["reconstruction.psnr_db", "bit_accuracy.mean", "dataset.read", "dataset.kept"]
    promised += [f"seconds.{stage}" for stage in STAGES]
    missing = [name for name in promised if not isinstance(figures.get(name), int | float)]
    assert missing == []
    assert (mini_run.folder / "report.html").stat().st_size > 10_000


def test_the_run_page_has_a_bar_a_table_and_pictures_for_every_stage(mini_run: MiniRun, prefect_server: str) -> None:
    assert _stages(prefect_server, mini_run.flow_run) == dict.fromkeys(STAGES, "Completed")
    artifacts = _artifacts(prefect_server, mini_run.flow_run)
    for stage in STAGES:
        assert artifacts[f"{stage}-progress"]["data"] == 100.0
        assert artifacts[f"{stage}-numbers"]["type"] == "table"
        assert "](data:image/" in artifacts[f"{stage}-pictures"]["data"]
    assert "report.html" in artifacts["report"]["data"]


def test_a_second_run_executes_no_stage_and_ends_quickly(mini_run: MiniRun, prefect_server: str) -> None:
    started = time.process_time()  # of a processor, which a busy machine does not lengthen
    flow_run = _run_again(mini_run)
    assert time.process_time() - started < 20
    assert _stages(prefect_server, flow_run) == dict.fromkeys(STAGES, "Cached")


def test_changed_evaluation_parameters_run_only_the_evaluation(mini_run: MiniRun, prefect_server: str) -> None:
    form = EvaluationForm(scene_prompts_per_task=1, reconstruction_pictures=4, validation_pictures=4)
    stages = _stages(prefect_server, _run_again(mini_run, evaluation=form))
    assert stages == dict.fromkeys(STAGES, "Cached") | {"evaluation": "Completed"}


def test_single_flows_go_on_with_the_plan_of_the_run(mini_run: MiniRun, prefect_server: str) -> None:
    for flow, stage in ((pretrain, "pretrain"), (evaluate, "evaluation")):
        state = flow(run=str(mini_run.folder), return_state=True)
        assert state.is_completed(), state.message
        assert _stages(prefect_server, str(state.state_details.flow_run_id)) == {stage: "Cached"}


def test_a_finetune_from_a_store_fills_it_first_as_a_task_of_its_own(mini_run: MiniRun, prefect_server: str) -> None:
    plan = load_plan(str(mini_run.folder))
    try:
        form = FinetuneForm(stored=True, num_steps=3)
        with in_process():
            state = finetune(run=str(mini_run.folder), transformer=form, return_state=True)
    finally:
        save_plan(plan, str(mini_run.folder))
    assert state.is_completed(), state.message
    flow_run = str(state.state_details.flow_run_id)
    assert _stages(prefect_server, flow_run) == {"finetune-store": "Completed", "finetune": "Completed"}
    table = json.loads(_artifacts(prefect_server, flow_run)["finetune-store-numbers"]["data"])
    pictures = {row["what"]: row["value"] for row in table}["pictures"]
    assert pictures == len(Manifest.load(plan.finetune.manifest).rows("train"))


def test_a_training_in_this_process_equals_that_of_a_worker_of_ray(mini_run: MiniRun, tmp_path: Path) -> None:
    spec = load_plan(str(mini_run.folder)).finetune
    with in_process():
        report = run_spec(spec.replace(output=str(tmp_path)))
    before, after = (load_checkpoint(folder).tensors for folder in (f"{spec.folder}/model", report.model))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    assert any((Path(report.model).parent / "samples").iterdir())


def test_bad_input_ends_the_run_with_the_job_s_own_sentence(
    prefect_server: str, local_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("empty")
    state = end_to_end(run=str(folder / "run"), data=str(folder), recipe="mini", return_state=True)
    assert state.is_failed()
    assert state.message is not None
    assert "expected" in state.message
    assert "Traceback" not in state.message
    assert "\n" not in state.message
