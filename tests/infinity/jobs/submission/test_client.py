"""Questions to a dashboard have an end, and a lost answer is no lost job."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infinity.jobs.dataset.build import BuildDatasetReport
from infinity.jobs.progress import silent
from infinity.jobs.submission import client as client_module
from infinity.jobs.submission import submit as submit_module
from infinity.jobs.submission.client import JobClient, JobState
from infinity.jobs.submission.files import JobFiles, submission_id
from infinity.jobs.submission.submit import StoppedError, Watcher, _stop, run_as_job
from infinity.jobs.watching import ClusterLostError, NoClusterError
from infinity.recipes.runs import end_to_end
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


@pytest.mark.parametrize(
    ("jobs", "statuses"), [({}, {}), ({"infinity-1": {"mark": "theirs"}}, {})], ids=["forgotten", "started anew"]
)
def test_an_id_that_another_process_has_freed_or_taken_is_no_error(
    dashboard: DashboardStub, jobs: dict[str, dict[str, str]], statuses: dict[str, str]
) -> None:
    """Two runs find that a job is over, and one of them is faster; the other attaches."""
    client = JobClient(dashboard.address)
    dashboard.jobs, dashboard.statuses = dict(jobs), statuses
    client.forget("infinity-1")
    assert dashboard.jobs == jobs


def test_a_job_whose_run_was_cancelled_is_started_again_by_another_run_that_waits_for_it(
    dashboard: DashboardStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_module, "POLL_S", 0.05)
    spec, told = end_to_end("mini", source=None, output=str(tmp_path)).dataset, list[str]()
    job, gone = submission_id(spec), set[str]()
    dashboard.jobs[job] = {"run": "run-1", "mark": "theirs"}

    def hear(sentence: str) -> None:
        told.append(sentence)
        if sentence.startswith("attached"):
            gone.add("run-1")
        if len(told) < 4:  # the job that is found, and then the one that this run has started
            dashboard.statuses[job] = "STOPPED"

    with pytest.raises(StoppedError, match="was stopped on the cluster"):
        run_as_job(
            spec, BuildDatasetReport, address=dashboard.address, progress=silent,
            watcher=Watcher("run-2", stops=gone.__contains__, told=hear),
        )  # fmt: skip
    assert [sentence.partition(" the Ray job")[0] for sentence in told] == [
        "attached to", "the run run-1, which had started it, was stopped; starting it again", "started",
    ]  # fmt: skip
    assert dashboard.jobs[job]["run"] == "run-2"


@pytest.mark.parametrize("by", ["run-1", "run-2"], ids=["a run of another server", "this run, suspended and resumed"])
def test_a_job_that_stores_its_step_for_a_run_that_ended_is_started_again_by_who_attached_meanwhile(
    dashboard: DashboardStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Its server is not asked: it may be another one, and a run that is resumed is not over."""
    monkeypatch.setattr(submit_module, "POLL_S", 0.05)
    spec, told = end_to_end("mini", source=None, output=str(tmp_path)).dataset, list[str]()
    job = submission_id(spec)
    dashboard.jobs[job] = {"run": by, "mark": "theirs"}

    def hear(sentence: str) -> None:
        told.append(sentence.partition(" the Ray job")[0])
        if told == ["attached to"]:
            JobFiles.of(spec).stop("theirs", by)  # as the process that stops it does
        dashboard.statuses[job] = "STOPPED"

    with pytest.raises(StoppedError, match="was stopped on the cluster"):  # the second one, by a person
        run_as_job(
            spec, BuildDatasetReport, address=dashboard.address, progress=silent,
            watcher=Watcher("run-2", stops=lambda run: False, told=hear),
        )  # fmt: skip
    again = f"the run {by}, which had started it, was stopped; starting it again"
    assert told == ["attached to", again, "started"]


def test_who_cancels_neither_stops_nor_awaits_the_job_that_another_run_has_started_meanwhile(
    dashboard: DashboardStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, stopped = JobClient(dashboard.address), list[str]()
    dashboard.jobs["infinity-1"] = {"run": "run-2", "mark": "theirs"}
    monkeypatch.setattr(client, "stop", stopped.append)
    state, files = JobState("RUNNING", "", None, {"run": "run-1", "mark": "mine"}), JobFiles(str(tmp_path))
    with pytest.raises(StoppedError, match="has ended"):
        _stop(client, files, "infinity-1", Watcher("run-1"), state)
    assert stopped == []
    dashboard.jobs["infinity-1"] = dict(state.metadata)
    monkeypatch.setattr(submit_module, "PATIENCE_S", 0.1)
    with pytest.raises(StoppedError, match="stores its state"):
        _stop(client, files, "infinity-1", Watcher("run-1"), state)
    assert stopped == ["infinity-1"]
    assert (files.stopped_by("mine"), files.stopped_by("theirs")) == ("run-1", None)


def test_a_job_gets_how_it_shall_work_and_neither_places_nor_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = {
        "INFINITY_LOG_FORMAT": "json", "INFINITY_TRACKERS": "mlflow", "INFINITY_TRACKING_PROJECT": "p",
        "INFINITY_KERNELS": "plain", "INFINITY_ATTENTION": "flash",
    }  # fmt: skip
    kept = {
        "INFINITY_RUNS": "s3://b", "INFINITY_DATABASE": "canary", "AWS_SECRET_ACCESS_KEY": "canary",
        "PREFECT_API_AUTH_STRING": "canary", "WANDB_API_KEY": "canary", "RAY_AUTH_TOKEN": "canary",
    }  # fmt: skip
    for name, value in {**passed, **kept}.items():
        monkeypatch.setenv(name, value)
    found = submit_module._variables()
    assert passed.items() <= found.items()
    assert not kept.keys() & found.keys()
    assert "canary" not in str(found)


def test_a_password_in_the_address_is_used_and_shown_to_nobody(dashboard: DashboardStub) -> None:
    """As of a proxy before the dashboard."""
    address = dashboard.address.replace("//", "//somebody:canary@")
    client = JobClient(address)
    assert client.state("infinity-1") is None
    assert {"Basic c29tZWJvZHk6Y2FuYXJ5"} == dashboard.askers
    assert (client.address, client.page("j")) == (dashboard.address, f"{dashboard.address}/#/jobs/j")
    with pytest.raises(NoClusterError) as refused:
        JobClient("http://somebody:canary@127.0.0.1:9")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_cancel_while_the_cluster_is_away_ends_at_once_and_says_what_becomes_of_the_job(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, files = JobState("RUNNING", "", None, {"run": "run-1"}), JobFiles(str(tmp_path))
    with dashboard_stub() as dashboard:
        client = JobClient(dashboard.address)
        began = time.monotonic()
        if how == "silent":
            dashboard.speaks.clear()
            monkeypatch.setattr(client._client, "answer_s", 0.3)
            with pytest.raises(StoppedError, match=r"does not answer .*job infinity-1 lives"):
                _stop(client, files, "infinity-1", Watcher("run-1"), state)
    if how == "gone":
        with pytest.raises(StoppedError, match=r"does not answer .*job infinity-1 lives"):
            _stop(client, files, "infinity-1", Watcher("run-1"), state)
    assert time.monotonic() - began < AGES_S / 2
