"""What the last state of a cancelled run says: where its work stands, and the command that goes on.

A flow that ends by itself knows it. For one that was killed, or cancelled before it began, a hook of the runner looks.
"""

import atexit
import logging
import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import UnfinishedRun
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed

from flows.operations.ends import GO_ON, again, standing
from flows.operations.last_word import speak_later
from flows.operations.left_job import leave_job
from flows.operations.outage import ANSWER_S
from infra.records import FlowRunRecord, note_spoken, run_record


def explain_cancel(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Say where a cancelled run stands whose own process could not; a hook of every flow."""
    record = run_record(str(flow_run.id))
    if record is None or not record.has_spoken:
        leave_last_word(str(flow_run.id), of_the_silent(record))
    if record is not None:
        leave_job(record)


@cache
def speak_if_never_begun() -> None:
    """At the exit of a process that a worker has started, see to the end of a run that was cancelled before it began.

    A worker that is just starting a process may not hear of the cancel. The flow's body is not called then, and the run
    would be "Cancelling" for ever.
    """
    flow_run = os.environ.get("PREFECT__FLOW_RUN_ID")
    if flow_run and PREFECT_API_URL.value():
        atexit.register(_speak_if_never_begun, flow_run)


def _speak_if_never_begun(flow_run: str) -> None:
    record = run_record(flow_run)
    if flow_run not in _SPOKEN and (record is None or not (record.has_spoken or record.pid == os.getpid())):
        leave_last_word(flow_run, of_the_silent(record))


_SPOKEN = set[str]()
"""Runs whose last word this process has left."""


RECENT = timedelta(minutes=10)
"""How long after its end a run is looked at."""


def explain_never_begun() -> list[str]:
    """Say of every run that ended just now, before it began, that nothing was computed; return what was said.

    The server cancels a run without a process by itself, and a worker one whose process has called no flow. Neither
    calls a hook, and the hook of a run that crashed so early finds nothing on record.
    """
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED, StateType.CRASHED])),
        end_time=FlowRunFilterEndTime.model_validate({"after_": datetime.now(UTC) - RECENT}),
    )
    said = list[str]()
    with get_client(sync_client=True, httpx_settings={"timeout": 3 * ANSWER_S}) as client:
        for run in client.read_flow_runs(flow_run_filter=wanted):
            if run.run_count == 0 and run.state is not None and GO_ON not in (run.state.message or ""):
                end, what = (Crashed, run.state.message) if run.state.is_crashed() else (Cancelled, "cancelled")
                why = of_the_silent(None).replace(GO_ON, again(client, run))
                message = f"{(what or 'crashed').rstrip('.')}: {why}"
                client.set_flow_run_state(run.id, end(message=message), force=True)
                said.append(f"{run.name} {message}")
    return said


def of_the_silent(record: FlowRunRecord | None) -> str:
    """Return what is known of a run whose process has said nothing.

    Args:
        record: Record of the run; None where it had not begun.
    """
    if record is None:
        return f"it had not begun, and nothing was computed; {GO_ON}"
    stands = standing(record.folder) if record.folder else ""
    where = f"{record.stage}: {stands or 'what is finished of it is kept'}" if record.stage else "no stage had begun"
    return f"its process ended before it could say more; {where}; {GO_ON}"


ENGINE_LOGGERS = ("prefect.flow_runs", "prefect.engine")
"""Loggers in which Prefect's engine tells how the process of a run ended."""


def _without_trace(record: logging.LogRecord) -> bool:
    """Return False for the trace with which the engine ends a cancelled run: it asks for a result that is not there."""
    return not (record.exc_info and isinstance(record.exc_info[1], UnfinishedRun))


def leave_last_word(flow_run: str, message: str) -> None:
    """If a run is being cancelled, see to it that its last state has this message, with the command to go on.

    Args:
        flow_run: Id of the run.
        message: What happened, and where the work stands.
    """
    note_spoken(flow_run)
    _SPOKEN.add(flow_run)
    try:
        with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
            run = client.read_flow_run(UUID(flow_run))
            if run.state is not None and run.state.is_cancelling():
                for name in ENGINE_LOGGERS:
                    logging.getLogger(name).addFilter(_without_trace)
                speak_later(flow_run, f"cancelled: {message.replace(GO_ON, again(client, run))}")
    except httpx.HTTPError:
        return
