"""Deploying again undoes nothing that a person has switched off, added or changed in the browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.server.deploying import deploy, make_pool, version_of
from infra.settings import REPOSITORY
from infra.stack import Stack
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

POOL = "kept"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """prefect.yaml with the one deployment that starts by itself, under a name of its own."""
    full = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"))
    (entry,) = [entry for entry in full["deployments"] if entry["entrypoint"].endswith(":evaluate")]
    entry["name"] = entry["work_pool"]["name"] = POOL
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**full, "deployments": [entry]}), encoding="utf-8")
    return path


def change(plan: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """As a person edits prefect.yaml."""
    text = yaml.safe_load(plan.read_text(encoding="utf-8"))
    edit(text["deployments"][0])
    plan.write_text(yaml.safe_dump(text), encoding="utf-8")


def deployment(api: str) -> dict[str, Any]:
    (found,) = ask(api, "deployments/filter", {"deployments": {"name": {"any_": [POOL]}}})
    return dict(found)


def automations(api: str) -> list[tuple[str, bool]]:
    path = f"automations/related-to/prefect.deployment.{deployment(api)['id']}"
    return [(found["name"], found["enabled"]) for found in ask(api, path, method="GET")]


def schedules(api: str) -> dict[str, dict[str, Any]]:
    """Schedules by when they fire."""
    return {schedule["schedule"]["cron"]: schedule for schedule in deployment(api)["schedules"]}


def test_what_a_person_switched_off_added_or_changed_survives_a_deploy(
    prefect_stack: Stack, prefect_server: str, plan: Path, tmp_path: Path
) -> None:
    deployed = tmp_path / "deployed"
    deployed.mkdir()

    def deploy_again(note: str) -> bool:
        change(plan, lambda entry: entry.update(description=note))
        server, api = prefect_stack.server_up(), prefect_stack.api(prefect_stack.server_up())
        api.timeout_s = AGES_S
        make_pool(api, lambda *words: prefect_stack._prefect(server, *words), POOL)
        return deploy(api, lambda *words: prefect_stack._prefect(server, *words), plan, deployed)

    assert deploy_again("first")
    assert not deploy_again("first")  # nothing has changed
    first = schedules(prefect_server)
    assert {cron: schedule["active"] for cron, schedule in first.items()} == {"0 3 * * *": True}
    assert automations(prefect_server) == [("evaluate every new model", True)]

    # A person switches the schedule, the automation and the pool off, gives the schedule other parameters, and adds
    # one of his own, without a name as the browser's form does.
    path, id_ = f"deployments/{deployment(prefect_server)['id']}", first["0 3 * * *"]["id"]
    ask(prefect_server, f"{path}/schedules/{id_}", {"active": False, "parameters": {"run": "mine"}}, method="PATCH")
    ask(prefect_server, f"{path}/schedules", [{"schedule": {"cron": "30 5 * * *"}, "active": False}])
    related = f"automations/related-to/prefect.deployment.{deployment(prefect_server)['id']}"
    (automation,) = ask(prefect_server, related, method="GET")
    ask(prefect_server, f"automations/{automation['id']}", {"enabled": False}, method="PATCH")
    ask(prefect_server, f"work_pools/{POOL}", {"is_paused": True, "concurrency_limit": 2}, method="PATCH")
    # Meanwhile prefect.yaml got another time, which comes into force and does not switch the schedule on; the whole
    # deployment that a person paused stays paused.
    ask(prefect_server, path, {"paused": True}, method="PATCH")
    change(plan, lambda entry: entry["schedules"][0].update(cron="0 4 * * *"))
    assert deploy_again("second")
    second = schedules(prefect_server)
    assert {cron: schedule["active"] for cron, schedule in second.items()} == {"0 4 * * *": False, "30 5 * * *": False}
    assert second["0 4 * * *"]["id"] == id_
    assert second["0 4 * * *"]["parameters"] == {"run": "mine"}
    assert deployment(prefect_server)["paused"]
    assert automations(prefect_server) == [("evaluate every new model", False)]
    pool = ask(prefect_server, f"work_pools/{POOL}", method="GET")
    assert (pool["is_paused"], pool["concurrency_limit"]) == (True, 2)

    # So does a schedule that an earlier version made, which had no name.
    ask(prefect_server, f"{path}/schedules/{id_}", method="DELETE")
    ask(prefect_server, f"{path}/schedules", [{"schedule": {"cron": "0 4 * * *", "timezone": "UTC"}, "active": False}])
    assert deploy_again("fourth")
    fourth = schedules(prefect_server)
    assert fourth["0 4 * * *"]["slug"] == "nightly"
    assert {cron: schedule["active"] for cron, schedule in fourth.items()} == {"0 4 * * *": False, "30 5 * * *": False}


def test_the_version_of_what_is_deployed_changes_with_plan_code_and_place(tmp_path: Path) -> None:
    def code(name: str, text: str) -> Path:
        place = tmp_path / name / "flows"
        place.mkdir(parents=True, exist_ok=True)
        (place / "flow.py").write_text(text, encoding="utf-8")
        return place.parent

    first = version_of({"deployments": []}, code("a", "x = 1"))
    assert version_of({"deployments": []}, code("a", "x = 1")) == first
    assert version_of({"deployments": [{"name": "local"}]}, tmp_path / "a") != first
    assert version_of({"deployments": []}, code("b", "x = 1")) != first
    assert version_of({"deployments": []}, code("a", "x = 2")) != first
    (tmp_path / "a" / "infinity").mkdir()
    with_file = version_of({"deployments": []}, tmp_path / "a")
    (tmp_path / "a" / "infinity" / "new.py").touch()
    assert version_of({"deployments": []}, tmp_path / "a") != with_file
