"""The last state of a cancelled run says where it stands.

Prefect's runner writes "Flow run was cancelled successfully." when the process of a cancelled flow has ended, and so
over all that the flow could say. Only a process that outlives both can add where the work stands.

python -m flows.operations.last_word <flow run> <message>
"""

import os
import subprocess
import sys
import time
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelled

from flows.operations.outage import ANSWER_S
from infra.settings import REPOSITORY

PATIENCE_S = 120.0
"""Seconds that the runner may take: it gives a flow 30 seconds to end."""


def leave_last_word(flow_run: str, message: str) -> None:
    """If the run of this process is being cancelled, see to it that its last state has this message."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run)).state
    except httpx.HTTPError:
        return
    if state is not None and state.is_cancelling():
        # In a session of its own: the runner ends all that belongs to the flow's.
        subprocess.Popen(
            [sys.executable, "-m", "flows.operations.last_word", flow_run, f"cancelled: {message}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")},
        ).returncode = 0  # it is meant to outlive us


def say(flow_run: UUID, message: str, *, patience_s: float = PATIENCE_S) -> bool:
    """Wait until the run is cancelled and give its state the message; return whether it was cancelled."""
    until = time.monotonic() + patience_s
    with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
        while time.monotonic() < until:
            if _said(client, flow_run, message):
                return True
            time.sleep(0.5)
    return False


def _said(client: SyncPrefectClient, flow_run: UUID, message: str) -> bool:
    try:
        state = client.read_flow_run(flow_run).state
        if state is None or not state.is_cancelled():
            return False
        client.set_flow_run_state(flow_run, Cancelled(message=message), force=True)
    except httpx.TransportError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if say(UUID(sys.argv[1]), sys.argv[2]) else 1)
