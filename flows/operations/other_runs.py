"""What a run wants to know of another one that works for the same stage."""

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

from flows.operations.outage import ANSWER_S


def is_over(flow_run: str) -> bool:
    """Return whether a run needs its work no longer: it has ended, is being cancelled, or the server lacks it.

    A server that does not answer says nothing, so the other run counts as going on.
    """
    try:
        state = _state(flow_run)
    except (ObjectNotFound, ValueError):
        return True
    return state is not None and (state.is_final() or state.is_cancelling())


def is_cancelled(flow_run: str) -> bool:
    """Return whether a run was cancelled or is being cancelled; without an answer of the server it is not."""
    try:
        state = _state(flow_run)
    except (ObjectNotFound, ValueError):
        return False
    return state is not None and (state.is_cancelled() or state.is_cancelling())


def _state(flow_run: str) -> State | None:
    """Return the state of a run; None where it has none or the server does not answer."""
    try:
        with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
            return client.read_flow_run(UUID(flow_run)).state
    except httpx.HTTPError:
        return None
