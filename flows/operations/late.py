"""Says of every run that is late why it waits, as a line in the log of its page; Prefect says "Late" and no more.

python -m flows.operations.late            print the reasons, too
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.operations.cancels import explain_never_begun
from flows.operations.outage import ANSWER_S

PERIOD_S = 20.0
"""Seconds between two looks of the server at its late runs."""
WAITING = ("Late", "AwaitingConcurrencySlot")
"""Names of the states of runs that wait: for a worker, or for a place that their deployment has no more of."""
HOLDING = [StateType.PENDING, StateType.RUNNING]
"""States of runs that hold a place of their queue or pool."""
LOGGER = "infinity.late"
logger = logging.getLogger(LOGGER)
SHOWN = 3
"""Runs that are named as those which hold the places."""


def explain_late(told: dict[UUID, str] | None = None) -> list[str]:
    """Write into the log of every late run why it waits, unless its last line says so; return what is the case now.

    Runs that wait for the same have one reason, which the server is asked for once.

    Args:
        told: Reasons by run that an earlier look wrote, whose logs are not read again; this look's are put there.
    """
    told = {} if told is None else told
    before, reasons = dict(told), dict[tuple[str | None, str | None, UUID | None], str]()
    told.clear()
    with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
        state = FlowRunFilterState(name=FlowRunFilterStateName(any_=list(WAITING)))
        said = list[str]()
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state)):
            with suppress(ObjectNotFound):  # deleted meanwhile, which keeps no other run from its reason
                place = run.work_pool_name, run.work_queue_name, run.deployment_id
                why = reasons.get(place) or f"waits: {reason(client, run)}"
                reasons[place] = why
                if before.get(run.id) != why:
                    _write(client, run, why)
                told[run.id] = why
                said.append(f"{run.name} {why}")
        return said


@contextmanager
def explained_again_and_again(api_url: str, auth: str, period_s: float = PERIOD_S) -> Iterator[None]:
    """Explain late runs of a server inside the block, and runs that were cancelled before they began, in a thread.

    Args:
        api_url: Address of the server's API.
        auth: ``name:password`` that the server asks for.
        period_s: Seconds between two looks.
    """
    over, told = threading.Event(), dict[UUID, str]()

    def look() -> None:
        with temporary_settings({PREFECT_API_URL: api_url, PREFECT_API_AUTH_STRING: auth}):
            while not over.wait(period_s):
                try:
                    explain_late(told)
                    explain_never_begun()
                except (httpx.HTTPError, PrefectException) as error:
                    logger.debug("a server that is busy is asked again (%s)", error)
                except Exception as error:  # a thread that ended would explain nothing any more, unheard
                    logger.warning("late runs get no reason now (%s: %s); asking again", type(error).__name__, error)

    threading.Thread(target=look, daemon=True, name="late").start()
    try:
        yield
    finally:
        over.set()  # not waited for: the server that it asks may have ended


def _write(client: SyncPrefectClient, run: FlowRun, why: str) -> None:
    if _last_line(client, run) != why:
        now = datetime.now(UTC).isoformat()
        line = {"name": LOGGER, "level": logging.WARNING, "message": why, "timestamp": now, "flow_run_id": str(run.id)}
        client.create_logs([line])


def _last_line(client: SyncPrefectClient, run: FlowRun) -> str:
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    lines = client.read_logs(wanted, limit=1, sort=LogSort.TIMESTAMP_DESC)
    return lines[0].message if lines else ""


def reason(client: SyncPrefectClient, run: FlowRun) -> str:
    """Return why a run whose time has come does not begin, and what to do."""
    if run.work_pool_name is None or run.work_queue_name is None:
        return "the work pool of its deployment is gone; cancel it, `make up`, and start it again"
    pool = client.read_work_pool(run.work_pool_name)
    queue = client.read_work_queue_by_name(run.work_queue_name, work_pool_name=pool.name)
    if pool.is_paused:
        return f"the work pool {pool.name} is paused; `prefect work-pool resume {pool.name}` lets it go on"
    if queue.is_paused:
        return (
            f"the queue {queue.name} of the pool {pool.name} is paused; "
            f"`prefect work-queue resume {queue.name} --pool {pool.name}` lets it go on"
        )
    if (no_worker := _no_worker(client, pool.name)) is not None:
        return no_worker
    by_queue = {"work_queue_filter": WorkQueueFilter(id=WorkQueueFilterId(any_=[queue.id]))}
    by_pool = {"work_pool_filter": WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name]))}
    limits: list[tuple[str, int | None, dict[str, Any]]] = [
        (f"queue {queue.name}", queue.concurrency_limit, by_queue),
        (f"pool {pool.name}", pool.concurrency_limit, by_pool),
    ]
    if run.deployment_id is not None:
        deployment = client.read_deployment(run.deployment_id)
        by_deployment = {"deployment_filter": DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))}
        limit = deployment.global_concurrency_limit
        limits.append((f"deployment {deployment.name}", None if limit is None else limit.limit, by_deployment))
    taken = [_taken(client, *limit) for limit in limits]
    return next(filter(None, taken), f"a worker of the pool {pool.name} runs and has not taken it yet; see its log")


def _no_worker(client: SyncPrefectClient, pool: str) -> str | None:
    """Return that no worker serves a pool, with the time of the last sign of one; None where one does."""
    workers = client.read_workers_for_work_pool(pool)
    if any(worker.status is not None and worker.status.value == "ONLINE" for worker in workers):
        return None
    heard = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time is not None]
    since = f"the last sign of one came at {_clock(max(heard))}" if heard else "there has been none"
    return f"no worker serves the pool {pool} ({since}); `make up` starts one"


def _taken(client: SyncPrefectClient, what: str, limit: int | None, runs: dict[str, Any]) -> str | None:
    """Return who holds the places of a queue, pool or deployment; None where one is free.

    Args:
        client: Client of the server.
        what: Kind and name of what has the limit.
        limit: How many runs it lets be at work at once; None for any number.
        runs: Filter of its runs.
    """
    if limit is None:
        return None
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=HOLDING))
    holders = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), **runs)
    if len(holders) < limit:
        return None
    shown = [
        f"{run.name} ({run.id}), {run.state_name} since {_clock(run.start_time or run.expected_start_time)}"
        for run in holders[:SHOWN]
    ]
    more = f" and {len(holders) - SHOWN} more" if len(holders) > SHOWN else ""
    number = "one run" if limit == 1 else f"{limit} runs"
    held = f"held by {'; '.join(shown)}{more}" if shown else "and its limit is 0"
    return f"the {what} lets {number} be at work at once, {held}; it begins when a place is free"


def _clock(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def main() -> int:
    """Entry of the command line."""
    for said in explain_late():
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
