"""Start a run that crashed again, a bounded number of times; an automation does it (infra/automations)."""

from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed

from flows.operations.outage import ANSWER_S
from flows.stages.stage import flow_body

RESUMES = "resumes:"
"""Begin of the tag by which runs know the run that they were started again for."""
BY_SCHEDULE = "auto-scheduled"


@flow(name="resume", flow_run_name="resume {flow_run}")
@flow_body
def resume(flow_run: str, most: int = 3) -> State[Any]:
    """Start a crashed run of a deployment again, with the same parameters; it goes on from what is stored.

    The run ends as Resumed, as Skipped where there is nothing to start again, or as GaveUp (a failure) where it crashed
    too often.

    Args:
        flow_run: Id of the flow run that crashed; an id of an event, prefect.flow-run.<id>, does as well.
        most: How often one run is started again at most, all its successors together.
    """
    try:
        id_ = UUID(flow_run.removeprefix("prefect.flow-run."))
    except ValueError:
        raise ValueError(f"flow_run: expected the id of a flow run, got {flow_run!r:.80}") from None
    with get_client(sync_client=True, httpx_settings={"timeout": 3 * ANSWER_S}) as client:
        return _resume(client, id_, most)


def _resume(client: SyncPrefectClient, id_: UUID, most: int) -> State[Any]:
    try:
        run = client.read_flow_run(id_)
    except ObjectNotFound:
        return Completed(name="Skipped", message=f"there is no flow run {id_}; it was deleted")
    if run.deployment_id is None:
        return Completed(name="Skipped", message=f"{run.name} was not started by a deployment, but by a command")
    if run.state is None or not run.state.is_crashed():
        return Completed(name="Skipped", message=f"{run.name} has not crashed, or goes on already")
    first = next((tag for tag in run.tags if tag.startswith(RESUMES)), f"{RESUMES}{id_}")
    successors = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[first])))
    if len(successors) >= most:
        message = (
            f"{run.name} crashed again after it was started {len(successors)} times anew; its last message: "
            f"{run.state.message or 'none'}; mend the cause, then start it by hand"
        )
        return Failed(name="GaveUp", message=message)
    tags = sorted({tag for tag in run.tags if tag != BY_SCHEDULE} | {first})
    try:
        client.read_deployment(run.deployment_id)
        new = client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            tags=tags,
            idempotency_key=f"resume-{id_}",
            job_variables=run.job_variables,
        )
    except ObjectNotFound:
        return Completed(name="Skipped", message=f"the deployment of {run.name} was deleted; start it by hand")
    return Completed(name="Resumed", message=f"{run.name} goes on as {new.name}, start {len(successors) + 1} of {most}")
