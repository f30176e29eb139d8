"""A run that crashed goes on a bounded number of times; automations are files that the server takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.schemas.automations import AutomationCore
from prefect.states import Completed, Crashed

from flows import automations
from flows.automations import FOLDER, MissingReferenceError, make_automations, resolved
from flows.resume import RESUMES, _resume
from infra.settings import Settings
from tests.fixtures.servers.prefect_api import ask

pytestmark = pytest.mark.prefect
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture
def deployment(prefect_server: str) -> Iterator[UUID]:
    """A deployment that no worker serves."""
    flow = ask(prefect_server, "flows/", {"name": f"crashes-{uuid4().hex[:8]}"})
    made = ask(prefect_server, "deployments/", {"name": "d", "flow_id": flow["id"], "tags": ["infinity"]})
    yield UUID(made["id"])
    ask(prefect_server, f"deployments/{made['id']}", method="DELETE")


def begun(deployment: UUID, *, state: State[object] | None = None) -> FlowRun:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment, parameters={"run": "demo"}, tags=["auto-scheduled"])
        if state is not None:
            client.set_flow_run_state(run.id, state, force=True)
        return client.read_flow_run(run.id)


def resumed(id_: UUID, most: int = 3) -> State[object]:
    with get_client(sync_client=True) as client:
        return _resume(client, id_, most)


def successors(first: UUID) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    with get_client(sync_client=True) as client:
        tag = FlowRunFilterTags(all_=[f"{RESUMES}{first}"])
        return sorted(client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tag)), key=lambda run: str(run.created))


def test_a_crashed_run_goes_on_with_its_parameters_at_most_as_often_as_allowed(deployment: UUID) -> None:
    first = begun(deployment, state=Crashed(message="its machine is gone"))
    newest = first
    for number in (1, 2):
        end = resumed(newest.id, most=2)
        assert end.name == "Resumed", end.message
        assert resumed(newest.id, most=2).name in ("Resumed", "GaveUp")  # asked twice: no second run
        found = successors(first.id)
        assert len(found) == number
        (newest,) = (run for run in found if run.state is None or not run.state.is_crashed())
        assert newest.parameters == {"run": "demo"}
        assert "auto-scheduled" not in newest.tags
        assert "infinity" in newest.tags
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(newest.id, Crashed(message="again"), force=True)
    end = resumed(newest.id, most=2)
    assert end.name == "GaveUp"
    assert "2 times anew; its last message: again" in (end.message or "")
    assert len(successors(first.id)) == 2


def test_what_has_not_crashed_or_is_gone_is_left_alone(deployment: UUID) -> None:
    run = begun(deployment, state=Completed())
    assert resumed(run.id).name == "Skipped"
    assert "was deleted" in (resumed(uuid4()).message or "")
    assert successors(run.id) == []


def test_a_run_whose_deployment_was_deleted_says_so(deployment: UUID, prefect_server: str) -> None:
    flow_id = ask(prefect_server, f"deployments/{deployment}", method="GET")["flow_id"]
    other = ask(prefect_server, "deployments/", {"name": "deleted", "flow_id": flow_id})["id"]
    run = begun(UUID(other), state=Crashed(message="its machine is gone"))
    ask(prefect_server, f"deployments/{other}", method="DELETE")
    end = resumed(run.id)
    assert end.name == "Skipped"
    assert "deployment" in (end.message or "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_an_automation_that_prefect_takes(path: Path) -> None:
    wanted = yaml.safe_load(path.read_text(encoding="utf-8"))
    for action in wanted["actions"]:
        if "deployment" in action:
            action["deployment_id"] = str(uuid4())
            assert action.pop("deployment") == "resume/local"
        if "block" in action:
            action["block_document_id"] = str(uuid4())
            assert action.pop("block").count("/") == 1
    automation = AutomationCore.model_validate(wanted)
    assert automation.description
    assert automation.name.startswith("infinity: ")
    assert set(wanted) == {"name", "description", "enabled", "trigger", "actions"}
    assert set(wanted["trigger"]) <= set(type(automation.trigger).model_fields)
    for given, action in zip(wanted["actions"], automation.actions, strict=True):
        assert set(given) <= set(type(action).model_fields)


def test_missing_ones_are_made_and_those_of_a_person_stay(prefect_server: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text((FOLDER / "silent-run-crashes.yaml").read_text())
    (tmp_path / "b.yaml").write_text((FOLDER / "tell-of-regressions.yaml").read_text())
    made, left_out = make_automations(tmp_path)
    assert made.endswith("made, off; switch it on in the browser")
    assert "left out, since the server has no notification block slack-webhook/infinity" in left_out
    (found,) = [
        each
        for each in ask(prefect_server, "automations/filter", {"limit": 200})
        if each["name"].endswith("has crashed")
    ]
    try:
        ask(prefect_server, f"automations/{found['id']}", {"enabled": True}, method="PATCH")
        assert next(iter(make_automations(tmp_path))).endswith("is there, and stays as it is")
        (again,) = [
            each for each in ask(prefect_server, "automations/filter", {"limit": 200}) if each["name"] == found["name"]
        ]
        assert again["enabled"]
    finally:
        ask(prefect_server, f"automations/{found['id']}", method="DELETE")


def test_a_deployment_that_is_not_there_is_named(prefect_server: str) -> None:
    wanted = {"actions": [{"type": "run-deployment", "deployment": "no-such/flow"}]}
    with (
        get_client(sync_client=True) as client,
        pytest.raises(MissingReferenceError, match="no deployment no-such/flow"),
    ):
        resolved(client, wanted)


def test_an_environment_has_automations_that_name_its_own_deployments(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = ask(prefect_server, "flows/", {"name": f"resumes-{uuid4().hex[:8]}"})
    made = ask(prefect_server, "deployments/", {"name": "staging", "flow_id": flow["id"]})
    wanted = {"actions": [{"type": "run-deployment", "deployment": f"{flow['name']}/local"}]}
    with get_client(sync_client=True) as client:
        with pytest.raises(MissingReferenceError, match=f"no deployment {flow['name']}/local"):
            resolved(client, wanted)
        monkeypatch.setattr(automations, "settings", lambda: Settings(environment="staging"))
        (action,) = resolved(client, wanted)["actions"]
    assert action == {"type": "run-deployment", "deployment_id": made["id"]}
