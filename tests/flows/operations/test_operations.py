"""What an operator does every week, on a real server, worker, flow and Ray: cancel, stop the stack, lose the server.

Minutes each, so that all run with ``--exhaustive`` only; the parts of each are tested without a stack elsewhere.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from flows.automations import FOLDER, make_automations
from flows.records.plan import load_plan
from flows.resume import RESUMES
from tests.fixtures.limits import wait_until
from tests.fixtures.operations.bad_ends import OVER, STEP, Trial, cancel
from tests.fixtures.operations.operated import NEVER, Operated, operated_in
from tests.fixtures.servers.prefect_api import ask

pytestmark = [pytest.mark.prefect, pytest.mark.ray, pytest.mark.slow]
logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Operated]:
    if not request.config.getoption("--exhaustive"):
        pytest.skip("minutes; --exhaustive runs it")
    with operated_in(tmp_path_factory.mktemp("ops")) as found:
        yield found


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


def test_the_automation_starts_a_crashed_run_again_and_it_goes_on_behind_its_stored_step(operated: Operated) -> None:
    api = operated.server.api_url
    list(make_automations())
    wanted = yaml.safe_load((FOLDER / "crashed-goes-on.yaml").read_text("utf-8"))["name"]
    (automation,) = [each for each in ask(api, "automations/filter", {"limit": 200}) if each["name"] == wanted]
    ask(api, f"automations/{automation['id']}", {"enabled": True}, method="PATCH")
    trial = Trial(operated, "train-tokenizer", 2000)
    wait_until(lambda: trial.stored() >= 100, "a stored state", period_s=0.5)
    stored = trial.stored()
    os.kill(trial.flow(), signal.SIGKILL)
    began = time.monotonic()
    try:
        assert operated.wait_for(trial.run, "CRASHED", "FAILED")["type"] == "CRASHED"
        query = {"flow_runs": {"tags": {"all_": [f"{RESUMES}{trial.run}"]}}}
        (successor,) = wait_until(lambda: ask(api, "flow_runs/filter", query), "a run that goes on", period_s=0.5)
        logger.warning("started again after %.0f s: %s", time.monotonic() - began, successor["name"])
        operated.wait_until_training(successor["id"])
        query = {"logs": {"flow_run_id": {"any_": [successor["id"]]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        steps = [int(found[1]) for line in ask(api, "logs/filter", query) if (found := STEP.search(line["message"]))]
        logger.warning("stored at step %d, went on at %d after %.0f s", stored, steps[0], time.monotonic() - began)
        assert steps[0] > stored
        assert operated.wait_for(successor["id"], *OVER)["type"] == "COMPLETED"
    finally:
        ask(api, f"automations/{automation['id']}", method="DELETE")


def _as_soon_as(*names: str) -> Callable[[Trial], object]:
    return lambda trial: trial.state()["name"] in names


MOMENTS: dict[str, Callable[[Trial], object]] = {
    "scheduled": lambda trial: True,
    "pending": _as_soon_as("Pending", "Submitting"),
    "its process starts": lambda trial: trial.family(),
    "Python imports": lambda trial: trial.family() and time.sleep(4.0) is None,
    "running": _as_soon_as("Running"),
    "its stage begins": lambda trial: trial.folder,
    "at work": lambda trial: trial.lines(),
}
"""When a run is cancelled: as soon as this is true."""


@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=list(MOMENTS))
def test_a_cancel_ends_as_cancelled_whenever_it_comes(operated: Operated, number: int) -> None:
    moment = list(MOMENTS)[number]
    trial = Trial(operated, "build-dataset", 1000 + number)
    wait_until(lambda: MOMENTS[moment](trial) or trial.is_over(), moment)
    cancel(trial)
    began = time.monotonic()
    state = operated.wait_for(trial.run, *OVER)
    wait_until(lambda: not trial.family(), "the end of all processes of the run", period_s=0.2)
    alone_s = time.monotonic() - began
    logger.warning("cancelled when %s: nothing lives after %.1f s: %s", moment, alone_s, state)
    assert state["type"] == "CANCELLED"
    time.sleep(10.0)  # the last word comes after the runner's, and nothing begins after it
    state = trial.state()
    assert state["type"] == "CANCELLED"
    assert not trial.family()
    if trial.folder:
        assert "start the same again to go on: prefect deployment run build-dataset/local" in state["message"]
