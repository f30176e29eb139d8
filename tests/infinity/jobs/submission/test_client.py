"""Questions to a dashboard have an end, and a lost answer is no lost job."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from infinity.jobs.submission import client as client_module
from infinity.jobs.submission.client import JobClient
from infinity.jobs.submission.submit import StoppedError, Watcher, _stop
from infinity.jobs.watching import ClusterLostError, NoClusterError
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.dashboard_stub import DashboardStub, dashboard_stub

pytestmark = pytest.mark.ray


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[DashboardStub]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with dashboard_stub() as found:
        yield found


def submit(client: JobClient, mark: str) -> bool:
    return client.submit("infinity-1", "python", variables={}, metadata={"run": "run-1", "mark": mark}, num_cpus=0)


def test_a_listener_that_takes_up_connections_and_says_nothing_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_ANSWER_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(NoClusterError, match=r"no Ray cluster answers at http://127\.0\.0\.1"):
            JobClient(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_a_dashboard_that_falls_silent_is_lost_and_found_again(
    dashboard: DashboardStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = JobClient(dashboard.address)
    assert client.state("infinity-1") is None
    dashboard.speaks.clear()
    monkeypatch.setattr(client._client, "answer_s", 0.3)
    with pytest.raises(ClusterLostError, match="does not answer"):
        client.state("infinity-1")
    dashboard.speaks.set()
    monkeypatch.setattr(client._client, "answer_s", AGES_S)
    assert client.state("infinity-1") is None


def test_a_job_whose_answer_was_lost_is_ours_by_its_mark_and_another_one_is_not(dashboard: DashboardStub) -> None:
    client = JobClient(dashboard.address)
    dashboard.loses_answers = True
    assert submit(client, "mine")
    state = client.state("infinity-1")
    assert state is not None
    assert state.metadata["mark"] == "mine"

    class Other(dict[str, dict[str, str]]):
        """Jobs of which another process was first with this one."""

        def __setitem__(self, job: str, metadata: dict[str, str]) -> None:
            super().__setitem__(job, {**metadata, "mark": "theirs"})

    dashboard.jobs = Other()
    assert not submit(client, "mine")


def test_a_start_that_failed_and_left_no_job_is_an_error(
    dashboard: DashboardStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = JobClient(dashboard.address)
    dashboard.loses_answers = True
    monkeypatch.setattr(dashboard, "answer", lambda path: None)
    with pytest.raises(ClusterLostError):
        submit(client, "mine")


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_cancel_while_the_cluster_is_away_ends_at_once_and_says_what_becomes_of_the_job(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dashboard_stub() as dashboard:
        client = JobClient(dashboard.address)
        began = time.monotonic()
        if how == "silent":
            dashboard.speaks.clear()
            monkeypatch.setattr(client._client, "answer_s", 0.3)
            with pytest.raises(StoppedError, match=r"does not answer .*job infinity-1 lives"):
                _stop(client, "infinity-1", Watcher("run-1"), "run-1")
    if how == "gone":
        with pytest.raises(StoppedError, match=r"does not answer .*job infinity-1 lives"):
            _stop(client, "infinity-1", Watcher("run-1"), "run-1")
    assert time.monotonic() - began < AGES_S / 2
