"""Deployments start by themselves: a schedule makes runs, and a new model sets off its evaluation."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events import DeploymentEventTrigger

from flows.evaluate import evaluate
from flows.records.events import MODEL_TRAINED, announce_model
from infra.settings import REPOSITORY
from tests.fixtures.limits import wait_until
from tests.fixtures.servers.prefect_api import ask

pytestmark = pytest.mark.prefect


@flow(name="tick")
def tick(run: str = "", model: str = "") -> None:
    """Does nothing."""


def runs(api: str, deployment: object, made_by: str) -> list[dict[str, Any]]:
    query = {"deployments": {"id": {"any_": [str(deployment)]}}}
    found = ask(api, "flow_runs/filter", query)
    return [run for run in found if (run["created_by"] or {}).get("type") == made_by]


def test_a_schedule_makes_runs(prefect_server: str) -> None:
    deployment = tick.to_deployment(name="often", interval=timedelta(seconds=60)).apply()
    wait_until(lambda: len(runs(prefect_server, deployment, "SCHEDULE")) >= 2, "two runs by the schedule", period_s=1.0)
    with get_client(sync_client=True) as client:
        client.delete_deployment(deployment)


def test_a_new_model_sets_off_a_run_with_its_name(prefect_server: str, tmp_path: Path) -> None:
    (trigger,) = evaluate_entry()["triggers"]
    assert trigger["expect"] == [MODEL_TRAINED]
    deployment = tick.to_deployment(name="on-model", triggers=[DeploymentEventTrigger(**trigger)]).apply()
    model = tmp_path / "model"
    model.mkdir()
    (model / "COMMITTED").write_text("0123456789abcdef\n")

    def told() -> list[dict[str, Any]]:
        announce_model("demo", str(model))  # again and again: the server takes a moment to notice a new trigger
        return runs(prefect_server, deployment, "AUTOMATION")

    run = wait_until(told, "a run by the new model", period_s=1.0)[0]
    assert run["parameters"] == {"run": "demo", "model": str(model)}


def test_the_deployment_of_evaluate_has_a_schedule_and_parameters_that_it_knows() -> None:
    entry = evaluate_entry()
    assert entry["schedules"][0]["cron"]
    known = set(evaluate.parameters.properties)
    assert set(entry["parameters"]) <= known
    assert set(entry["triggers"][0]["parameters"]) <= known


def evaluate_entry() -> dict[str, Any]:
    """What prefect.yaml says about the deployment of evaluate."""
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    found: dict[str, Any] = next(entry for entry in deployments if entry["entrypoint"].endswith(":evaluate"))
    return found
