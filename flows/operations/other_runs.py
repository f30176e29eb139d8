"""What a run wants to know of another one that works for the same stage."""

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

from flows.operations.outage import ANSWER_S


def is_over(flow_run: str) -> bool:
    """Return whether a run needs its work no longer: it has ended, or is being cancelled.

    A run that the server does not know may be one of another server, and one that does not answer says nothing: both
    count as going on. A job of a run that was deleted ends by itself, since nobody watches it.
    """
    state = _state(flow_run)
    return state is not None and (state.is_final() or state.is_cancelling())


def is_cancelled(flow_run: str) -> bool:
    """Return whether a run was cancelled or is being cancelled; without an answer of the server it is not."""
    state = _state(flow_run)
    return state is not None and (state.is_cancelled() or state.is_cancelling())


def _state(flow_run: str) -> State | None:
    """Return the state of a run; None where it has none, and where the server does not know it or does not answer."""
    try:
        with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
            return client.read_flow_run(UUID(flow_run)).state
    except (httpx.HTTPError, ObjectNotFound, ValueError):  # the last one: no id of a flow run
        return None
