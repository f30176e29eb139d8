"""Runs whose process is gone end in a sentence and free their slot; runs whose process lives are left alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Completed, Crashed, Pending, Running, Suspended

from flows.operations.ends import GO_ON
from flows.operations.outage import server_address
from flows.operations.reaper import explain_crash, reap
from infinity.jobs.submission.files import FOLDER, JobFiles
from infra import records
from infra.processes import birth
from infra.records import FlowRunRecord, note_stage, recorded
from infra.settings import settings
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask

pytestmark = pytest.mark.prefect

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]


@flow(name="a long flow")
def long_flow() -> None:
    """Never called."""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_STATE", str(tmp_path / "state"))
    settings.cache_clear()


def begun(state: object, process: int, **fields: str) -> UUID:
    """A run in a state, on record as the work of a process."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(long_flow)
        client.set_flow_run_state(run.id, Running(), force=True)
        client.set_flow_run_state(run.id, state, force=True)  # type: ignore[arg-type]
    record = FlowRunRecord(str(run.id), socket.gethostname(), process, birth(process) or "", **fields)
    records._write(record)
    return run.id


def found(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def killed() -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(SLEEP)
    return process, process.pid


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=AGES_S)


def stored(folder: Path, step: int) -> str:
    """A folder of a training with a finished state."""
    state = folder / "state" / f"step-{step:08d}"
    state.mkdir(parents=True)
    (state / "COMMITTED").write_text("0123456789abcdef\n")
    return str(folder)


@pytest.mark.parametrize(
    ("state", "final"), [(Running(), "CRASHED"), (Pending(), "CRASHED"), (Cancelling(), "CANCELLED")]
)
def test_a_run_whose_process_was_killed_ends_with_cause_step_and_next_command(
    prefect_server: str, tmp_path: Path, state: object, final: str
) -> None:
    process, pid = killed()
    run = begun(state, pid, stage="pretrain", folder=stored(tmp_path / "run", 1234))
    assert reap() == []
    end(process)
    (said,) = reap()
    last = found(run).state
    assert last is not None
    assert last.type.value == final
    assert last.message is not None
    assert said.endswith(last.message)
    for words in (
        f"process {pid} on {socket.gethostname()} is gone",
        "pretrain: stored at step 1234",
        "start the same",
    ):
        assert words in last.message
    assert reap() == []
    assert records.records() == []


@pytest.mark.parametrize("by", ["the hook of the flow", "the reaper"])
def test_a_run_that_prefect_says_has_crashed_gets_to_say_where_it_stands(
    prefect_server: str, tmp_path: Path, by: str
) -> None:
    process, pid = killed()
    folder = stored(tmp_path / "run", 77)
    run = begun(Crashed(message="Process exited with status code: -9."), pid, stage="tokenizer", folder=folder)
    end(process)
    if by == "the reaper":
        assert len(reap()) == 1
        assert records.records() == []
    else:
        state = found(run).state
        assert state is not None
        explain_crash(long_flow, found(run), state)
        explain_crash(long_flow, found(run), state)  # once is enough
    last = found(run).state
    assert last is not None
    assert last.is_crashed()
    assert (
        last.message
        == "Process exited with status code: -9; tokenizer: stored at step 77; start the same again to go on"
    )


@pytest.mark.parametrize("by", ["the hook of the flow", "the reaper"])
@pytest.mark.parametrize("watcher", ["this run", "another run"])
def test_the_job_of_a_run_that_died_is_told_so_unless_another_run_watches_it(
    prefect_server: str, tmp_path: Path, by: str, watcher: str
) -> None:
    process, pid = killed()
    run = begun(Crashed(message="killed."), pid, stage="pretrain", folder=str(tmp_path))
    files = JobFiles(str(tmp_path / FOLDER))
    files.watch(str(run) if watcher == "this run" else watcher, 1)
    end(process)
    if by == "the reaper":
        reap()
    else:
        state = found(run).state
        assert state is not None
        explain_crash(long_flow, found(run), state)
    assert files.watched().is_last == (watcher == "this run")


def test_a_run_that_could_tell_nobody_why_its_stage_failed_has_it_on_record(
    prefect_server: str, tmp_path: Path
) -> None:
    """A server that is too busy makes a crash of a failure."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(long_flow)
        client.set_flow_run_state(run.id, Running(), force=True)  # else it had not begun, which the server says itself
        client.set_flow_run_state(run.id, Crashed(message="Process exited with status code: 1."), force=True)
    with recorded(str(run.id)):
        note_stage("dataset", str(tmp_path))
        note_stage("dataset", str(tmp_path), f"/runs/x: no space left on the disk; {GO_ON}")
    state = found(run.id).state
    assert state is not None
    explain_crash(long_flow, found(run.id), state)
    last = found(run.id).state
    assert last is not None
    assert last.message == (f"Process exited with status code: 1; dataset: /runs/x: no space left on the disk; {GO_ON}")
    with recorded(str(run.id)):
        note_stage("dataset", str(tmp_path), "failed")
        note_stage("dataset", str(tmp_path))  # tried again
    (record,) = records.records()
    assert not record.failure


def test_a_run_that_ends_while_it_is_looked_at_keeps_its_own_end(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process tells the server of its end, and is gone, right after the reaper has looked whether it lives."""
    process, pid = killed()
    run, usual = begun(Running(), pid), records.birth

    def born(number: int) -> str | None:
        found = usual(number)
        if process.poll() is None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run, Completed(), force=True)
            end(process)
        return found

    monkeypatch.setattr(records, "birth", born)
    assert reap() == []
    assert found(run).state_type == "COMPLETED"
    assert reap() == []
    assert records.records() == []


def test_another_process_with_the_number_of_a_dead_one_does_not_count_as_it(prefect_server: str) -> None:
    run = begun(Running(), os.getpid())
    (record,) = records.records()
    records._write(FlowRunRecord(record.flow_run, record.host, record.pid, "another birth"))
    assert len(reap()) == 1
    last = found(run).state
    assert last is not None
    assert last.is_crashed()


def test_a_run_of_another_machine_is_left_alone(prefect_server: str) -> None:
    run = begun(Running(), os.getpid())
    (record,) = records.records()
    records._write(FlowRunRecord(record.flow_run, f"not-{record.host}", 1, "some birth"))
    assert reap() == []
    last = found(run).state
    assert last is not None
    assert last.is_running()


def test_the_slot_of_a_killed_run_of_a_deployment_is_free_again(prefect_server: str) -> None:
    deployment = long_flow.to_deployment(name="alone", concurrency_limit=1).apply()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment)
        assert _moved_on(client, run.id)
        process, pid = killed()
        records._write(FlowRunRecord(str(run.id), socket.gethostname(), pid, birth(pid) or ""))
        later = client.create_flow_run_from_deployment(deployment)
        assert not _moved_on(client, later.id)
        end(process)
        (said,) = reap()
        assert "prefect deployment run 'a long flow/alone'" in said
        assert _moved_on(client, later.id)
        client.set_flow_run_state(later.id, Cancelling(), force=True)


def _moved_on(client: SyncPrefectClient, run: UUID) -> bool:
    """Ask for Pending and Running, as a worker and its process do; whether the run may go on."""
    client.set_flow_run_state(run, Pending())
    state = client.read_flow_run(run).state
    if state is None or not state.is_pending():
        return False
    client.set_flow_run_state(run, Running())
    return True


def test_runs_of_a_pool_that_nobody_has_on_record_end_where_its_only_worker_starts(prefect_server: str) -> None:
    ask(prefect_server, "work_pools/", {"name": "reaped", "type": "process"})
    with get_client(sync_client=True) as client:
        deployment = long_flow.to_deployment(name="of-pool", work_pool_name="reaped").apply()
        lost = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(lost.id, Pending(), force=True)
        waiting = client.create_flow_run_from_deployment(deployment)
    assert reap() == []
    (said,) = reap("reaped")
    assert lost.name in said
    assert found(lost.id).state_type == "CRASHED"
    assert found(waiting.id).state_type == "SCHEDULED"


def test_a_flow_is_on_record_with_the_stage_that_it_is_at(tmp_path: Path) -> None:
    with recorded("0123"):
        note_stage("tokenizer", "/runs/tokenizer")
        (record,) = records.records()
    assert record.is_alive
    assert record.is_of_this_machine
    assert (record.flow_run, record.stage, record.folder) == ("0123", "tokenizer", "/runs/tokenizer")


def test_a_run_that_was_resumed_stays_on_record_as_the_work_of_its_new_process(prefect_server: str) -> None:
    """The old process may still store its step; its end is not that of the run."""
    process, pid = killed()
    with recorded("0123"):
        new = FlowRunRecord("0123", socket.gethostname(), pid, birth(pid) or "", "tokenizer", "/runs/tokenizer")
        records._write(new)
        note_stage("tokenizer", "/runs/tokenizer", "asked to end")
        assert records.records() == [new]
        records.forget(new)
        note_stage("tokenizer", "/runs/tokenizer")
        assert [record.pid for record in records.records()] == [os.getpid()]
    end(process)


@pytest.mark.parametrize("server", ["http://127.0.0.1:9/api", ""], ids=["another server", "this server"])
def test_the_record_of_a_run_is_forgotten_by_its_own_server_alone(prefect_server: str, server: str) -> None:
    """Else a run of a second server, whose process was killed, is "Running" there for ever."""
    process, pid = killed()
    record = FlowRunRecord(str(uuid4()), socket.gethostname(), pid, birth(pid) or "", server=server or server_address())
    records._write(record)
    end(process)
    assert reap() == []
    assert records.records() == ([record] if server else [])


def test_a_process_that_still_stores_its_step_stays_on_record(prefect_server: str, tmp_path: Path) -> None:
    """`make down` waits for those that are; a suspended run is over on the server before its process is."""
    process, pid = killed()
    begun(Suspended(timeout_seconds=3600), pid, stage="pretrain", folder=str(tmp_path))
    assert reap() == []
    assert [record.pid for record in records.records()] == [pid]
    end(process)
    assert reap() == []
    assert records.records() == []


def test_a_damaged_record_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with recorded("0123"):
        pass
    (settings().state / "flows" / "odd.json").write_text(json.dumps(["no", "record"]))
    assert [record.flow_run for record in records.records()] == ["0123"]
    assert "odd.json is not a record of a flow run" in caplog.text


def test_a_state_folder_that_cannot_be_written_ends_no_flow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file in the way")
    with recorded("0123"):
        note_stage("tokenizer", "/runs/tokenizer")
    assert "its run stays 'Running'" in caplog.text


@pytest.mark.parametrize(
    ("stage", "said"), [("dataset", "; dataset: what is finished of it is kept"), ("", "")], ids=["a stage", "none"]
)
def test_a_crash_in_a_stage_without_steps_or_before_the_first_says_how_it_goes_on(
    prefect_server: str, tmp_path: Path, stage: str, said: str
) -> None:
    process, pid = killed()
    run = begun(Crashed(message="Process exited with status code: -9."), pid, stage=stage, folder=str(tmp_path))
    end(process)
    reap()
    state = found(run).state
    assert state is not None
    assert state.message == f"Process exited with status code: -9{said}; start the same again to go on"
