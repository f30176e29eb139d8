"""The last state of a cancelled run says where it stands.

Prefect's runner writes "Flow run was cancelled successfully." when the process of a cancelled flow has ended, and so
over all that the flow could say. Only a process that outlives both can add where the work stands. A flow that was
killed, or cancelled before it began, starts no such process; a hook of the runner does it then.

python -m flows.operations.last_word <flow run> < message
"""

import os
import subprocess
import sys
import time
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.operations.outage import ANSWER_S
from infra.settings import REPOSITORY

PATIENCE_S = 120.0
"""Seconds that the runner may take: it gives a flow 30 seconds to end."""
RUNNER_S = 30.0
"""Seconds after the end of a flow in which its runner says that it is cancelled, unless it did not hear of it."""


def speak_later(flow_run: str, message: str) -> None:
    """Start a process that gives the run's state the message once the run is cancelled."""
    # In a session of its own: the runner ends all that belongs to the flow's.
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.operations.last_word", flow_run],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")},
    )
    assert process.stdin is not None
    process.stdin.write(message.encode())  # not an argument, which everybody on the machine can read
    process.stdin.close()
    process.returncode = 0  # it is meant to outlive us


def say(flow_run: UUID, message: str, *, patience_s: float = PATIENCE_S, runner_s: float = RUNNER_S) -> bool:
    """Wait until the run is cancelled and give its state the message; return whether it was cancelled.

    Args:
        flow_run: Id of the run.
        message: Message of its last state.
        patience_s: Longest time of the wait in seconds.
        runner_s: Time in seconds after which nobody else is expected to end a run that is being cancelled.
    """
    with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
        began, is_said = time.monotonic(), False
        while (waited_s := time.monotonic() - began) < patience_s:
            state = _state(client, flow_run)
            by_runner = state is not None and state.is_cancelled() and state.message != message
            if by_runner or (state is not None and state.is_cancelling() and waited_s > runner_s):
                is_said = _set(client, flow_run, message) or is_said
                if is_said and by_runner:
                    return True  # else a runner that is late may still write over it
            time.sleep(0.5)
    return is_said


def _state(client: SyncPrefectClient, flow_run: UUID) -> State | None:
    try:
        return client.read_flow_run(flow_run).state
    except httpx.HTTPError:  # also from a server that is too busy
        return None


def _set(client: SyncPrefectClient, flow_run: UUID, message: str) -> bool:
    try:
        client.set_flow_run_state(flow_run, Cancelled(message=message), force=True)
    except httpx.HTTPError:  # also from a server that is too busy
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if say(UUID(sys.argv[1]), sys.stdin.read()) else 1)
