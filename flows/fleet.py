"""Show where every run stands, and compare runs side by side; a schedule does it every half hour."""

from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_run_logger

from flows.operations.cancels import explain_cancel
from flows.operations.outage import ANSWER_S
from flows.operations.reaper import explain_crash
from flows.pages.comparison_page import publish_comparison
from flows.pages.fleet_page import publish_fleet
from flows.stages.stage import flow_body
from infinity.jobs.upkeep.cards import card
from infinity.jobs.upkeep.fleet import RunStatus
from infinity.jobs.upkeep.fleet import fleet as status_of
from infinity.jobs.upkeep.inventory import Inventory, take_inventory
from infinity.jobs.upkeep.run_views import view, views
from infra.settings import settings

MOST_FAILURES = 20


@flow(name="fleet", flow_run_name="fleet", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def fleet(compare: tuple[str, ...] | None = ()) -> int:
    """Publish the page of all runs as the artifact "fleet"; return the number of runs.

    Args:
        compare: Names or folders of two or more runs that the artifact "comparison" shows side by side. Empty: the two
            that changed last.
    """
    inventory = take_inventory(settings().runs)
    runs = status_of(inventory)
    prices = {"cpu_hour": settings().price_cpu_hour, "gpu_hour": settings().price_gpu_hour}
    power = {"cpu_w": settings().power_cpu_w, "gpu_w": settings().power_gpu_w}
    publish_fleet([card(run, **prices, **power) for run in runs], _ended_badly(), inventory.root)
    if compare:
        publish_comparison(views(compare, settings().runs))
    else:
        _compare_newest(runs, inventory)
    return len(runs)


def _compare_newest(runs: list[RunStatus], inventory: Inventory) -> None:
    """Publish the two runs that changed last; nobody asked for them, so that an old report among them is no failure."""
    folders = [run.folder for run in runs if not run.trouble][:2]
    try:
        found = [view(folder, inventory) for folder in folders]
    except ValueError as error:
        get_run_logger().warning("the two newest runs are not compared: %s", error)
        return
    if len(found) == 2:
        publish_comparison(found)


def _ended_badly(days: int = 7) -> list[FlowRun]:
    """Return the flow runs that failed or crashed in these days, the last one first."""
    bad = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.FAILED, StateType.CRASHED]))
    since = FlowRunFilterEndTime.model_validate({"after_": datetime.now(UTC) - timedelta(days=days)})
    with get_client(sync_client=True, httpx_settings={"timeout": 3 * ANSWER_S}) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=bad, end_time=since),
            sort=FlowRunSort.END_TIME_DESC,
            limit=MOST_FAILURES,
        )
