"""A disk that is nearly full is told of once a day, with the runs that fill it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect import flow
from prefect.events import emit_event
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from flows.automations import FOLDER
from flows.operations import disks
from flows.operations.disks import DISK_NEARLY_FULL, tell_of_full_disks
from infinity import storage
from infra.settings import settings
from tests.fixtures.limits import wait_until
from tests.fixtures.servers.prefect_api import ask


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Events that were emitted; the disk of the runs counts as nearly full."""
    events: list[dict[str, Any]] = []
    monkeypatch.setenv("INFINITY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("INFINITY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("INFINITY_DISK_WARNING_SHARE", "1")
    settings.cache_clear()
    for name, size in (("small", 10), ("large", 5_000_000)):
        storage.write_text(str(tmp_path / "runs" / name / "run.json"), "{}")
        (tmp_path / "runs" / name / "file").write_bytes(b"0" * size)
    monkeypatch.setattr(disks, "emit_event", lambda **given: events.append(given))
    yield events
    settings.cache_clear()


def test_people_are_told_once_a_day_of_a_disk_and_again_when_it_was_emptied_meanwhile(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (summary,) = tell_of_full_disks()
    assert "the largest runs are large 0.0 GB, small 0.0 GB; `infinity gc " in summary
    assert tell_of_full_disks() == []
    (marker,) = (settings().state / disks.TOLD).iterdir()
    before = time.time() - disks.AGAIN_S - 1.0
    os.utime(marker, (before, before))
    assert len(tell_of_full_disks()) == 1
    monkeypatch.setenv("INFINITY_DISK_WARNING_SHARE", "0")
    settings.cache_clear()
    assert tell_of_full_disks() == []
    assert not marker.exists()
    monkeypatch.setenv("INFINITY_DISK_WARNING_SHARE", "1")
    settings.cache_clear()
    assert len(tell_of_full_disks()) == 1
    assert [event["event"] for event in told] == [DISK_NEARLY_FULL] * 3


def test_a_root_that_cannot_be_listed_is_told_of_all_the_same(told: list[dict[str, Any]], tmp_path: Path) -> None:
    storage.write_text(str(tmp_path / "runs" / "run.json"), "{}")  # the root is itself a run
    assert "its runs cannot be listed" in tell_of_full_disks()[0]


@pytest.mark.prefect
def test_the_automation_fires_at_the_event(
    told: list[dict[str, Any]], prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trigger as the file says, with an action that a test can see in the place of a message."""
    wanted = yaml.safe_load((FOLDER / "tell-of-full-disks.yaml").read_text(encoding="utf-8"))
    assert wanted["enabled"]

    @flow(name=f"told-{uuid4().hex[:6]}")
    def message(summary: str = "") -> None:
        """Does nothing."""

    deployment = message.to_deployment(name="d").apply()
    action = {
        "type": "run-deployment", "source": "selected", "deployment_id": str(deployment),
        "parameters": {"summary": wanted["actions"][0]["body"]},
    }  # fmt: skip
    automation = AutomationCore.model_validate({**wanted, "name": uuid4().hex, "actions": [action]})
    assert isinstance(automation.trigger, EventTrigger)
    made = ask(prefect_server, "automations/", automation.model_dump(mode="json"))
    monkeypatch.setattr(disks, "emit_event", emit_event)

    def runs() -> list[dict[str, Any]]:
        for marker in (settings().state / disks.TOLD).glob("*"):
            marker.unlink()
        assert tell_of_full_disks()  # again and again: the server takes a moment to notice a new trigger
        query = {"deployments": {"id": {"any_": [str(deployment)]}}}
        return list(ask(prefect_server, "flow_runs/filter", query))

    try:
        run = wait_until(runs, "a run by the event", period_s=1.0)[0]
    finally:
        ask(prefect_server, f"automations/{made['id']}", method="DELETE")
    assert "are free at" in run["parameters"]["summary"]
