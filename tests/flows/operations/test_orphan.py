"""A flow that has outlived its worker is stopped by a cancel of its run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Running

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
from flows.operations.orphan import stopped_when_cancelled

told = Path(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: (told.with_name("stopped").touch(), sys.exit(0)))
with stopped_when_cancelled(sys.argv[1], period_s=0.1):
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
