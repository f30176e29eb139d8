"""What a run may conclude of another one whose job it has found."""

from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Pending, Running, Suspended

from flows.operations.other_runs import is_cancelled, is_over

pytestmark = pytest.mark.prefect


@pytest.mark.parametrize(
    ("state", "over", "cancelled"),
    [
        (Pending(), False, False), (Running(), False, False), (Suspended(timeout_seconds=3600), False, False),
        (Cancelling(), True, True), (Cancelled(), True, True), (Crashed(), True, False), (Completed(), True, False),
    ],
    ids=lambda value: value.name if isinstance(value, State) else "",
)  # fmt: skip
def test_a_run_is_over_by_its_state(prefect_server: str, state: State, over: bool, cancelled: bool) -> None:
    from flows.fleet import fleet  # any flow

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(fleet).id
        client.set_flow_run_state(run, state, force=True)
    assert (is_over(str(run)), is_cancelled(str(run))) == (over, cancelled)


@pytest.mark.parametrize("run", [str(uuid4()), "by hand"], ids=["of another server or deleted", "of no server"])
def test_a_run_that_the_server_does_not_know_goes_on(prefect_server: str, run: str) -> None:
    """Two servers may share a cluster: a cancel on one ends no job of the other."""
    assert not is_over(run)
    assert not is_cancelled(run)
