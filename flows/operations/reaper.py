"""Finds flow runs whose process is gone, and says so on the server, so that they block nobody any longer.

python -m flows.operations.reaper               runs that are on record on this machine
python -m flows.operations.reaper --pool local  also runs of this pool that no living process does; only while no worker
                                                of the pool runs anywhere, as when `make up` starts the only one
"""

import argparse
import socket
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Crashed

from flows.operations.cancels import explain_never_begun
from flows.operations.disks import tell_of_full_disks
from flows.operations.ends import GO_ON, again, standing
from flows.operations.late import explain_late
from flows.operations.left_job import leave_job
from flows.operations.outage import ANSWER_S, server_address
from infra import records
from infra.records import FlowRunRecord

BUSY = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""States in which a run holds a slot and somebody has to be at work."""


@flow(name="reaper")
def reaper() -> list[str]:
    """End the runs of this machine whose process is gone, and return what was said of each; may run on a schedule."""
    ended = reap()
    for said in tell_of_full_disks():
        get_run_logger().warning("%s", said)
    explain_late()  # also where the server is another one than that of the stack
    explain_never_begun()
    return ended


def explain_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Add to the last state of a crashed run where its training stands, and end its Ray job; a hook of every flow."""
    if (record := records.run_record(str(flow_run.id))) is not None:
        leave_job(record)
        with get_client(sync_client=True, httpx_settings={"timeout": 3 * ANSWER_S}) as client:
            _add_standing(client, client.read_flow_run(flow_run.id), record)


def reap(pool: str | None = None) -> list[str]:
    """End every run whose process is gone, and tell what was found.

    Args:
        pool: Work pool whose runs end too where they are on nobody's record; no other worker may be doing them.
    """
    with get_client(sync_client=True, httpx_settings={"timeout": 3 * ANSWER_S}) as client:
        mine = [record for record in records.records() if record.is_of_this_machine]
        ended = [said for record in mine if (said := _judge(client, record)) is not None]
        if pool is not None:
            at_work = {record.flow_run for record in mine if record.is_alive}
            ended += [_end(client, run, None) for run in _busy(client, pool) if str(run.id) not in at_work]
    return ended


def _judge(client: SyncPrefectClient, record: FlowRunRecord) -> str | None:
    """End the run of a record if its process is gone; forget the record if the run is over."""
    if record.is_alive:  # before its state is asked for: a process tells its last state before it ends
        return None
    try:
        run = client.read_flow_run(UUID(record.flow_run))
    except (ObjectNotFound, ValueError):  # no id; deleted; or of another server, whose reaper needs the record
        if record.server in ("", server_address()):
            records.forget(record)
        return None
    is_over = run.state is None or run.state.type not in BUSY
    leave_job(record)
    said = _add_standing(client, run, record) if is_over else _end(client, run, record)
    records.forget(record)
    return said


def _add_standing(client: SyncPrefectClient, run: FlowRun, record: FlowRunRecord) -> str | None:
    """Let the state of a crashed run say where it stands and how it goes on; return the message, if it is new."""
    said = "" if run.state is None else run.state.message or ""
    if run.state is None or not run.state.is_crashed() or GO_ON in said:
        return None
    message = "; ".join(filter(None, [said.rstrip("."), _standing(record), again(client, run)]))
    client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return f"{run.name}: {message}"


def _busy(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(BUSY)))),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )


def _end(client: SyncPrefectClient, run: FlowRun, record: FlowRunRecord | None) -> str:
    """Set the last state of a run without a process, and of its tasks; the slot is free then."""
    assert run.state is not None
    message = _message(client, run, record)
    final = Cancelled if run.state.is_cancelling() else Crashed
    client.set_flow_run_state(run.id, final(message=message), force=True)
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(BUSY)))),
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message=message), force=True)
    return f"{run.name}: {message}"


def _message(client: SyncPrefectClient, run: FlowRun, record: FlowRunRecord | None) -> str:
    """Return a message: what happened, where the work stands, and how it goes on."""
    if record is None:
        cause = f"no process on {socket.gethostname()} does this run any more, and no worker of its pool ran"
        stands = ""
    else:
        cause = (
            f"process {record.pid} on {record.host} is gone without a last word: it was killed, or the machine was "
            "restarted"
        )
        stands = _standing(record)
    return "; ".join(filter(None, [cause, stands, again(client, run)]))


def _standing(record: FlowRunRecord) -> str:
    """Return why the stage of a record failed, if it said so to nobody but the record, or where it stands."""
    if record.failure:
        return f"{record.stage}: {record.failure.removesuffix(f'; {GO_ON}')}"
    stands = standing(record.folder) if record.folder else ""
    return f"{record.stage}: {stands or 'what is finished of it is kept'}" if record.stage else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.operations.reaper", description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", help="end also runs of this pool that are on nobody's record")
    options = parser.parse_args(arguments)
    for said in reap(options.pool):
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
