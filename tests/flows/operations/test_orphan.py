"""A flow that has outlived its worker is stopped by a cancel of its run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.states import Cancelled, Cancelling, Running, Suspended

from flows.operations import orphan
from infra.settings import REPOSITORY
from tests.fixtures.limits import AGES_S

pytestmark = pytest.mark.prefect

WORKER = """
import subprocess, sys
flow = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
sys.stdin.readline()  # until the worker dies
"""
FLOW = """
import signal, sys, time
from pathlib import Path
from uuid import UUID
from flows.operations.orphan import stopped_when_unwanted

told = Path(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: (told.with_name("stopped").touch(), sys.exit(0)))
with stopped_when_unwanted(sys.argv[1], period_s=0.1):
    told.touch()
    while not told.with_name("enough").exists():
        time.sleep(0.05)
told.with_name("ended").touch()
"""


def run_in(state: State) -> str:
    from flows.fleet import fleet  # any flow

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(fleet)
        client.set_flow_run_state(run.id, state, force=True)
    return str(run.id)


def state_of(run: UUID) -> State:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run).state
    assert found is not None
    return found


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + AGES_S
    while not any(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"none of {[path.name for path in paths]} came"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("state", "is_killed", "stops"),
    [
        (Cancelling(), True, True),
        (Cancelled(), True, True),
        (Running(), True, False),
        (Cancelling(), False, False),  # its worker stops it
    ],
    ids=["cancelling", "cancelled", "going on", "with its worker"],
)
def test_only_a_cancelled_flow_without_its_worker_stops_itself(
    prefect_server: str, tmp_path: Path, state: State, is_killed: bool, stops: bool
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, FLOW, run_in(state), str(tmp_path / "begun")],
        stdin=subprocess.PIPE, cwd=REPOSITORY, env=os.environ,
    )  # fmt: skip
    wait_for(tmp_path / "begun")
    if is_killed:
        worker.send_signal(signal.SIGKILL)
        worker.wait(timeout=AGES_S)
    if not stops:
        time.sleep(1.0)  # some looks at the run
        (tmp_path / "enough").touch()
    wait_for(tmp_path / "stopped", tmp_path / "ended")
    assert (tmp_path / "stopped").exists() == stops
    worker.kill()
    worker.wait(timeout=AGES_S)
    assert worker.stdin is not None
    worker.stdin.close()


def test_a_suspended_flow_stops_at_its_work_and_stays_suspended(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prefect's page says "Suspended" at once; the process works on until its next task."""
    from flows.stages.stage import flow_body

    runs = list[UUID]()

    @flow(name="suspended")
    @flow_body
    def suspended() -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        state = Suspended(timeout_seconds=AGES_S)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(context.flow_run.id, state, force=True)
        runs.append(context.flow_run.id)
        context.flow_run_suspension_request.mark_requested(state)  # as Prefect's observer does
        time.sleep(AGES_S)

    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "of a worker")  # not before: the end of such a process says a last word
    monkeypatch.setenv("INFINITY_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(orphan, "PERIOD_S", 0.1)
    with pytest.raises(Pause) as raised:
        suspended()
    assert raised.value.state.name == "Suspended"
    assert state_of(runs[0]).name == "Suspended"
