"""The whole pipeline in miniature: it runs, shows itself, and does nothing twice."""

import json
import time
from typing import Any

import httpx
import pytest

from flows.end_to_end import end_to_end
from flows.evaluate import evaluate
from flows.parameters import EvaluationForm
from flows.plan import STAGES
from flows.pretrain import pretrain
from tests.flows.conftest import MiniRun

pytestmark = [pytest.mark.prefect, pytest.mark.ray, pytest.mark.slow]


def _ask(api: str, path: str, **query: Any) -> Any:
    answer = httpx.post(f"{api}/{path}/filter", json=query, trust_env=False)
    answer.raise_for_status()
    return answer.json()


def _stages(api: str, flow_run: str) -> dict[str, str]:
    runs = _ask(api, "task_runs", flow_runs={"id": {"any_": [flow_run]}})
    return {run["name"]: run["state"]["name"] for run in runs}


def _artifacts(api: str, flow_run: str) -> dict[str, Any]:
    found = _ask(api, "artifacts", flow_runs={"id": {"any_": [flow_run]}})
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
    started = time.monotonic()
    flow_run = _run_again(mini_run)
    assert time.monotonic() - started < 20
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
