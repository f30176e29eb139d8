"""A night without a model is no failure; a name that a person typed and that is wrong is one."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow

from flows import evaluate as module
from flows.evaluate import DEFAULT_RUN, evaluate
from flows.records.plan import folder_of, new_plan, save_plan
from tests.fixtures.limits import wait_until
from tests.fixtures.servers.prefect_api import ask

pytestmark = pytest.mark.prefect


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str) -> None:
    monkeypatch.setenv("INFINITY_RUNS", str(tmp_path / "runs"))


def end_of(**parameters: Any) -> tuple[str, str, str]:
    state: State[Any] = evaluate(**parameters, return_state=True)  # type: ignore[call-overload]
    return state.type.value, str(state.name), str(state.message)


def begun(run: str) -> None:
    folder = folder_of(run)
    save_plan(new_plan("mini", None, folder), folder)


def test_where_nobody_named_a_run_and_there_is_none_the_evaluation_is_skipped() -> None:
    kind, name, message = end_of()
    assert (kind, name) == ("COMPLETED", "Skipped")
    assert message.startswith(f"nothing to evaluate: there is no run '{DEFAULT_RUN}' yet")


def test_where_the_run_has_no_model_yet_the_evaluation_is_skipped() -> None:
    begun(DEFAULT_RUN)
    assert end_of() == (
        "COMPLETED",
        "Skipped",
        f"nothing to evaluate: no model of run '{DEFAULT_RUN}' is finished yet; train one to evaluate it",
    )


@pytest.mark.parametrize("parameters", [{"run": "typo"}, {"model": "/models/none"}])
def test_a_run_or_a_model_that_a_person_named_and_that_is_not_there_is_an_error(parameters: dict[str, str]) -> None:
    kind, name, message = end_of(**parameters)
    assert (kind, name) == ("FAILED", "Failed")
    assert "no run" in message
    assert "\n" not in message


def test_a_damaged_plan_is_an_error_also_at_night(tmp_path: Path) -> None:
    begun(DEFAULT_RUN)
    Path(folder_of(DEFAULT_RUN), "run.json").write_text("{")
    assert end_of()[0] == "FAILED"


def test_a_run_that_a_schedule_makes_knows_that_nobody_named_it(prefect_server: str) -> None:
    """A real run of a real schedule, as far as the question is concerned; its body is asked here."""

    @flow(name="who-asks")
    def who_asks(run: str = "another") -> bool:
        return module._nobody_named(run)

    deployment = who_asks.to_deployment(name="at-night", interval=timedelta(seconds=2)).apply()
    query = {"deployments": {"id": {"any_": [str(deployment)]}}}
    found = wait_until(lambda: ask(prefect_server, "flow_runs/filter", query), "a run by the schedule", period_s=1.0)
    assert all(run["auto_scheduled"] for run in found)
    first = min(found, key=lambda run: str(run["expected_start_time"]))  # it is run at its time, not before
    with get_client(sync_client=True) as client:
        scheduled = client.read_flow_run(first["id"])
    assert run_flow(who_asks, flow_run=scheduled, parameters={"run": "another"}) is True
    assert who_asks() is False
    with get_client(sync_client=True) as client:
        client.delete_deployment(deployment)  # or a run every two seconds is late until the suite ends
