"""What an operator does every week, on a real server, worker, flow and Ray: cancel, stop the stack, lose the server.

Minutes each, so that all run with ``--exhaustive`` only; the parts of each are tested without a stack elsewhere.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.build_dataset import build_dataset
from flows.records.plan import load_plan
from infra.environment import free_port
from infra.settings import Settings
from infra.stack import Server, Stack
from tests.fixtures.killing import living, newest_step
from tests.fixtures.limits import AGES_S, wait_until
from tests.fixtures.prefect_api import ask

pytestmark = [pytest.mark.prefect, pytest.mark.ray, pytest.mark.slow]
logger = logging.getLogger(__name__)

NEVER = 90_000
"""Steps of a training that does not end by itself while a test looks at it."""


class Operated:
    """A stack of its own with one run whose data set is built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = Stack(
            Settings(
                state=folder / "state", runs=str(folder / "runs"), work_pool="local", prefect_port=free_port(),
                prefect_api_url=None,
            )
        )  # fmt: skip
        self.run = str(folder / "runs" / "mini")
        self.server = self.up()

    def up(self) -> Server:
        """As ``make up``."""
        server = self.stack.server_up(timeout_s=AGES_S)
        self.stack.worker_up(server, timeout_s=AGES_S)
        return server

    def start(self, **tokenizer: int) -> str:
        """A run of the deployment train-tokenizer/local; its id."""
        api = self.server.api_url
        deployment = ask(api, "deployments/name/train-tokenizer/local", method="GET")["id"]
        parameters = {"run": self.run, "tokenizer": tokenizer}
        run: str = ask(api, f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]
        return run

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.server.api_url, f"flow_runs/{run}", method="GET")["state"]
        return found

    def wait_for(self, run: str, *kinds: str) -> dict[str, Any]:
        """The state of the run when it is of one of these types."""
        return wait_until(
            lambda: state if (state := self.state(run))["type"] in kinds else None, f"{kinds}", period_s=0.5
        )

    def wait_until_training(self, run: str) -> None:
        """Until steps of the run are in its log."""

        def is_at_steps() -> bool:
            if (state := self.state(run))["type"] in ("FAILED", "CRASHED", "COMPLETED"):
                pytest.fail(f"the run is over: {state}")
            query = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_DESC", "limit": 5}
            return any("%  step " in line["message"] for line in ask(self.server.api_url, "logs/filter", query))

        wait_until(is_at_steps, "steps in the log of the run", period_s=1.0)

    @property
    def stored(self) -> int:
        return newest_step(load_plan(self.run).tokenizer)

    def processes(self) -> list[int]:
        """Living processes of flows of this stack, their clusters included."""
        mark, found = f"INFINITY_STATE={self.folder / 'state'}".encode(), []
        services = {service.pid for service in self.stack.register.services().values()}
        for process in living():
            try:
                variables = Path(f"/proc/{process.number}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            is_flow = any(each.startswith(b"PREFECT__FLOW_RUN_ID=") for each in variables)
            if mark in variables and is_flow and process.number not in services:
                found.append(process.number)
        return found

    def wait_until_nothing_lives(self, since: float) -> float:
        wait_until(lambda: not self.processes(), "the end of all processes of the run", period_s=0.2)
        return time.monotonic() - since


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Operated]:
    if not request.config.getoption("--exhaustive"):
        pytest.skip("minutes; --exhaustive runs it")
    patch = pytest.MonkeyPatch()
    patch.delenv("PREFECT_API_URL", raising=False)
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    found = Operated(tmp_path_factory.mktemp("ops"))
    try:
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        auth = found.stack.auth()
        assert auth is not None
        patch.setenv("PREFECT_API_AUTH_STRING", auth)
        with temporary_settings(updates={PREFECT_API_URL: found.server.api_url, PREFECT_API_AUTH_STRING: auth}):
            assert build_dataset(run=found.run, recipe="mini", return_state=True).is_completed()
        yield found
    finally:
        found.stack.down()
        patch.undo()


def test_cancel_stores_the_step_and_nothing_lives_after_it(operated: Operated) -> None:
    run = operated.start(num_steps=NEVER, save_every_steps=NEVER)
    operated.wait_until_training(run)
    began = time.monotonic()
    ask(operated.server.api_url, f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    state = operated.wait_for(run, "CANCELLED", "CRASHED", "FAILED")
    alone_s = operated.wait_until_nothing_lives(began)
    logger.warning("cancel: nothing lives after %.1f s, stored at step %d: %s", alone_s, operated.stored, state)
    assert state["type"] == "CANCELLED"
    assert operated.stored > 0
    assert alone_s < 60.0
    wait_until(
        lambda: f"stored at step {operated.stored}" in (operated.state(run)["message"] or ""),
        "the last word of the run",
    )


def test_down_in_a_run_stores_the_step_and_up_frees_the_deployment(operated: Operated) -> None:
    before = operated.stored
    run = operated.start(num_steps=NEVER, save_every_steps=NEVER)
    operated.wait_until_training(run)
    began = time.monotonic()
    assert set(operated.stack.down()) >= {"worker", "server"}
    alone_s = operated.wait_until_nothing_lives(began)
    logger.warning("down: nothing lives after %.1f s, stored at step %d", alone_s, operated.stored)
    assert operated.stored > before
    operated.server = operated.up()
    state = operated.state(run)
    logger.warning("after up: %s", state)
    assert state["type"] in ("CRASHED", "CANCELLED", "FAILED")
    assert f"stored at step {operated.stored}" in state["message"]
    again = operated.start(num_steps=NEVER, save_every_steps=NEVER)
    operated.wait_until_training(again)
    for pid in operated.processes():
        os.kill(pid, signal.SIGKILL)
    state = operated.wait_for(again, "CRASHED", "FAILED")
    logger.warning("all processes killed: %s", state)


def test_a_power_cut_leaves_no_run_behind(operated: Operated) -> None:
    run = operated.start(num_steps=NEVER, save_every_steps=50)
    operated.wait_until_training(run)
    services = operated.stack.register.services().values()
    for service in services:
        os.killpg(service.pid, signal.SIGKILL)
    for pid in operated.processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(service.is_alive() for service in services), "the end of the stack")
    operated.wait_until_nothing_lives(0.0)
    operated.server = operated.up()
    state = operated.state(run)
    logger.warning("after a power cut: %s", state)
    assert state["type"] == "CRASHED"
    assert f"tokenizer: stored at step {operated.stored}" in state["message"]
    assert "prefect deployment run train-tokenizer/local" in state["message"]


@pytest.mark.parametrize("outage_s", [None, 330.0], ids=["until the end", "of five minutes"])
def test_a_server_that_goes_away_costs_no_report(operated: Operated, outage_s: float | None) -> None:
    """A training that is over while the server is away is shown as completed when it answers."""
    steps = 1200 if outage_s is None else 6000
    run = operated.start(num_steps=steps, save_every_steps=100)
    operated.wait_until_training(run)
    operated.stack.stop("server")
    report = Path(load_plan(operated.run).tokenizer.folder) / "report.json"
    if outage_s is None:
        wait_until(report.exists, "the report", period_s=0.5)
        time.sleep(20.0)
    else:
        time.sleep(outage_s)
    operated.server = operated.up()
    state = operated.wait_for(run, "COMPLETED", "CRASHED", "FAILED")
    assert report.exists()
    assert state["type"] == "COMPLETED", state
    tasks = ask(operated.server.api_url, "task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert [task["state_type"] for task in tasks] == ["COMPLETED"]
    artifacts = ask(operated.server.api_url, "artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert {"tokenizer-progress", "tokenizer-numbers"} <= {artifact["key"] for artifact in artifacts}


def test_the_death_of_the_raylet_is_one_sentence_and_the_run_goes_on_from_its_state(operated: Operated) -> None:
    run = operated.start(num_steps=NEVER, save_every_steps=20, num_bits=12)
    operated.wait_until_training(run)
    before = wait_until(lambda: operated.stored if operated.stored >= 20 else None, "a stored state", period_s=0.5)
    (raylet,) = [pid for pid in operated.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"]
    os.kill(raylet, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: operated.stored >= before + 40, "states of the second try", period_s=0.5)
    logger.warning(
        "stored at step %d, at %d %.0f s after its raylet died", before, operated.stored, time.monotonic() - began
    )
    query = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    said = [line["message"] for line in ask(operated.server.api_url, "logs/filter", query)]
    assert not any("Traceback" in line for line in said)
    assert operated.state(run)["type"] == "RUNNING"
    ask(operated.server.api_url, f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    operated.wait_for(run, "CANCELLED")
