"""Deployments start by themselves: a schedule makes runs, and a new model sets off its evaluation."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect import flow
from prefect.events import DeploymentEventTrigger

from flows.evaluate import evaluate
from flows.events import MODEL_TRAINED, announce_model
from infra.settings import REPOSITORY

pytestmark = pytest.mark.prefect
PATIENCE_S = 90.0


@flow(name="tick")
def tick(run: str = "", model: str = "") -> None:
    """Does nothing."""


def wait(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(1.0)
    pytest.fail(f"nothing happened within {PATIENCE_S:.0f} s")


def runs(api: str, deployment: object, made_by: str) -> list[dict[str, Any]]:
    query = {"deployments": {"id": {"any_": [str(deployment)]}}}
    found = httpx.post(f"{api}/flow_runs/filter", json=query, trust_env=False, timeout=30).json()
    return [run for run in found if (run["created_by"] or {}).get("type") == made_by]


def test_a_schedule_makes_runs(prefect_server: str) -> None:
    deployment = tick.to_deployment(name="often", interval=timedelta(seconds=60)).apply()
    assert len(wait(lambda: runs(prefect_server, deployment, "SCHEDULE"))) >= 2


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

    run = wait(told)[0]
    assert run["parameters"] == {"run": "demo", "model": str(model)}


def test_the_deployment_of_evaluate_has_a_schedule_and_parameters_that_it_knows() -> None:
    entry = evaluate_entry()
    assert entry["schedules"][0]["active"]
    known = set(evaluate.parameters.properties)
    assert set(entry["parameters"]) <= known
    assert set(entry["triggers"][0]["parameters"]) <= known


def evaluate_entry() -> dict[str, Any]:
    """What prefect.yaml says about the deployment of evaluate."""
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    found: dict[str, Any] = next(entry for entry in deployments if entry["entrypoint"].endswith(":evaluate"))
    return found
