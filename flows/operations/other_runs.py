"""What a run wants to know of another one that works for the same stage."""

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.operations.outage import ANSWER_S


def is_over(flow_run: str) -> bool:
    """Return whether a run needs its work no longer: it has ended, or the server does not know it.

    A server that does not answer says nothing, so the other run counts as going on.
    """
    try:
        with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client:
            state = client.read_flow_run(UUID(flow_run)).state
    except (ObjectNotFound, ValueError):
        return True
    except httpx.HTTPError:
        return False
    return state is not None and (state.is_final() or state.is_cancelling())
