"""A run that waits says for what: no worker, a pause, or places that others hold."""

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingConcurrencySlot, Late, Pending, Running

from flows.operations import late
from flows.operations.late import explain_late, explained_again_and_again, reason
from tests.fixtures.limits import AGES_S, wait_until

pytestmark = pytest.mark.prefect


@flow(name="what waits")
def waiting() -> None:
    """Never called."""


@dataclass(frozen=True, slots=True)
class Place:
    """A pool with one queue of one place, and a deployment to it."""

    client: SyncPrefectClient
    pool: str
    deployment: uuid.UUID

    def run(self) -> FlowRun:
        """Start a run whose time came a minute ago."""
        run = self.client.create_flow_run_from_deployment(self.deployment)
        self.client.set_flow_run_state(run.id, Late(scheduled_time=datetime.now(UTC) - timedelta(minutes=1)))
        return self.client.read_flow_run(run.id)

    def lines(self, run: FlowRun) -> list[str]:
        """What the log of a run says."""
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        return [line.message for line in self.client.read_logs(wanted)]


@pytest.fixture
def place(prefect_server: str) -> Iterator[Place]:
    name = f"pool-{uuid.uuid4().hex[:8]}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        client.create_work_queue("machine", concurrency_limit=1, work_pool_name=name)
        made = client.create_deployment(
            client.create_flow(waiting), "waiting", work_pool_name=name, work_queue_name="machine"
        )
        yield Place(client, name, made)


def test_without_a_worker_the_log_says_so_once_and_again_when_it_is_another_reason(place: Place) -> None:
    run = place.run()
    assert any(said.startswith(f"{run.name} waits: no worker serves the pool") for said in explain_late())
    explain_late()
    (line,) = place.lines(run)
    assert line == f"waits: no worker serves the pool {place.pool} (there has been none); `make up` starts one"
    place.client.update_work_pool(place.pool, WorkPoolUpdate(is_paused=True))
    explain_late()
    explain_late()
    assert sorted(place.lines(run))[1:] == [
        f"waits: the work pool {place.pool} is paused; `prefect work-pool resume {place.pool}` lets it go on"
    ]


def test_many_runs_that_wait_for_the_same_cost_one_question(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule can leave hundreds; each was asked for with several requests, every twenty seconds, before."""
    runs, told = [place.run() for _ in range(3)], dict[uuid.UUID, str]()
    asked, read = list[str | None](), list[uuid.UUID]()
    last_line = late._last_line

    def counted(client: SyncPrefectClient, run: FlowRun) -> str:
        asked.append(run.work_pool_name)
        return reason(client, run)

    def reading(client: SyncPrefectClient, run: FlowRun) -> str:
        read.append(run.id)
        return last_line(client, run)

    monkeypatch.setattr(late, "reason", counted)
    monkeypatch.setattr(late, "_last_line", reading)
    for _ in range(2):
        explain_late(told)
    assert asked.count(place.pool) == 2
    assert all(read.count(run.id) == 1 for run in runs)
    assert [len(place.lines(run)) for run in runs] == [1, 1, 1]


@pytest.mark.parametrize("state", [Running(), Pending()])
def test_a_run_behind_another_names_it(place: Place, state: object) -> None:
    place.client.send_worker_heartbeat(place.pool, "worker", heartbeat_interval_seconds=AGES_S)
    first, second = place.run(), place.run()
    assert "has not taken it yet" in reason(place.client, second)
    place.client.set_flow_run_state(first.id, state, force=True)  # type: ignore[arg-type]
    said = reason(place.client, second)
    assert said.startswith(f"the queue machine lets one run be at work at once, held by {first.name} ({first.id}), ")
    assert f"{state.name} since {datetime.now(UTC):%Y}" in said  # type: ignore[attr-defined]


def test_limits_of_pool_and_deployment_and_paused_queues_count_too(place: Place) -> None:
    place.client.send_worker_heartbeat(place.pool, "worker", heartbeat_interval_seconds=AGES_S)
    queue = place.client.read_work_queue_by_name("machine", work_pool_name=place.pool)
    run, others = place.run(), [place.run() for _ in range(5)]
    place.client.update_work_queue(queue.id, concurrency_limit=9)
    for other in others:
        place.client.set_flow_run_state(other.id, Running(), force=True)
    assert "has not taken it yet" in reason(place.client, run)
    place.client.update_work_pool(place.pool, WorkPoolUpdate(concurrency_limit=5))
    said = reason(place.client, run)
    assert said.startswith(f"the pool {place.pool} lets 5 runs be at work at once, held by ")
    assert said.count("Running since") == late.SHOWN
    assert " and 2 more; it begins when a place is free" in said
    place.client.update_work_pool(place.pool, WorkPoolUpdate(concurrency_limit=0))
    assert "lets 0 runs be at work" in reason(place.client, run)
    place.client.update_work_queue(queue.id, is_paused=True)
    assert f"`prefect work-queue resume machine --pool {place.pool}`" in reason(place.client, run)


def test_a_run_that_its_deployment_has_no_place_for_says_who_has_it(place: Place) -> None:
    """A worker has asked for it already, and the server gave it a later time instead of a place."""
    holder, waits = place.run(), place.run()
    place.client.set_flow_run_state(holder.id, Running(), force=True)
    place.client.set_flow_run_state(waits.id, AwaitingConcurrencySlot(), force=True)
    assert any(said.startswith(f"{waits.name} waits: ") for said in late.explain_late())


def test_a_run_whose_pool_was_deleted_says_so(place: Place) -> None:
    run = place.run()
    place.client.delete_work_pool(place.pool)
    after = place.client.read_flow_run(run.id)
    assert "the work pool of its deployment is gone" in reason(place.client, after)


def test_a_run_of_which_something_was_deleted_meanwhile_keeps_no_other_from_its_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, other = place.run(), place.run()

    last_line = late._last_line

    def reading(client: SyncPrefectClient, run: FlowRun) -> str:
        if run.id == gone.id:
            raise ObjectNotFound(Exception("its log"))
        return last_line(client, run)

    monkeypatch.setattr(late, "_last_line", reading)
    said = late.explain_late()
    assert any(other.name in each for each in said)
    assert not any(gone.name in each for each in said)


def test_the_server_explains_by_itself_and_outlives_answers_that_do_not_come(
    place: Place, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    run, threads = place.run(), threading.active_count()
    auth = os.environ["PREFECT_API_AUTH_STRING"]
    with explained_again_and_again("http://127.0.0.1:9/api", auth, 0.1):
        time.sleep(0.5)
        assert threading.active_count() > threads
    with explained_again_and_again(prefect_server, auth, 0.2):
        wait_until(lambda: place.lines(run), "a reason in the log")


def test_an_error_that_nobody_foresees_ends_no_explanations(
    place: Place, prefect_server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import os

    looks, usual = list[int](), late.explain_late

    def explain(told: dict[uuid.UUID, str]) -> list[str]:
        looks.append(1)
        if len(looks) == 1:
            raise KeyError("odd")
        return usual(told)

    monkeypatch.setattr(late, "explain_late", explain)
    run = place.run()
    with explained_again_and_again(prefect_server, os.environ["PREFECT_API_AUTH_STRING"], 0.2):
        wait_until(lambda: place.lines(run), "a reason in the log")
    assert "late runs get no reason now (KeyError: 'odd')" in caplog.text
