"""The last state of a cancelled run says where its work stands, whoever is left to say it."""

from __future__ import annotations

import contextvars
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import UnfinishedRun
from prefect.flow_engine import flow_run_logger, run_flow
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running

from flows.operations import cancels
from flows.operations.cancels import explain_cancel, explain_never_begun, leave_last_word, of_the_silent
from flows.operations.ends import GO_ON
from flows.operations.last_word import say
from infra import records
from infra.records import FlowRunRecord, note_spoken, note_stage, recorded, run_record
from infra.settings import REPOSITORY, settings
from tests.fixtures.limits import AGES_S, wait_until

pytestmark = pytest.mark.prefect


@flow(name="cancelled")
def any_flow() -> None:
    """Never called."""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_STATE", str(tmp_path / "state"))
    settings.cache_clear()


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages for which a process would be started."""
    found = list[str]()
    monkeypatch.setattr(cancels, "speak_later", lambda flow_run, message: found.append(message))
    return found


def run_in(state: State) -> UUID:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(any_flow)
        client.set_flow_run_state(run.id, state, force=True)
    return run.id


def state_of(run: UUID) -> State:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run).state
    assert found is not None
    return found


def hook(run: UUID) -> None:
    with get_client(sync_client=True) as client:
        explain_cancel(any_flow, client.read_flow_run(run), Cancelling())


def test_a_run_that_never_began_says_so(prefect_server: str, left: list[str]) -> None:
    hook(run_in(Cancelling()))
    assert left == [f"cancelled: it had not begun, and nothing was computed; {GO_ON}"]


def test_a_run_that_was_killed_says_at_which_step_it_stands(
    prefect_server: str, tmp_path: Path, left: list[str]
) -> None:
    place = tmp_path / "t" / "state" / "step-00000400"
    place.mkdir(parents=True)
    (place / "COMMITTED").touch()
    run = run_in(Cancelling())
    with recorded(str(run)):
        note_stage("tokenizer", str(tmp_path / "t"))
    hook(run)
    assert left == [f"cancelled: its process ended before it could say more; tokenizer: stored at step 400; {GO_ON}"]
    hook(run)
    assert len(left) == 1


def test_what_the_flow_itself_said_stays(prefect_server: str, left: list[str]) -> None:
    run = run_in(Cancelling())
    with recorded(str(run)):
        leave_last_word(str(run), f"tokenizer: asked to end; {GO_ON}")
    hook(run)
    assert left == [f"cancelled: tokenizer: asked to end; {GO_ON}"]


@pytest.fixture
def _engine_as_it_was() -> Iterator[None]:
    yield
    for name in cancels.ENGINE_LOGGERS:
        logging.getLogger(name).removeFilter(cancels._without_trace)


@flow(name="ends while it is cancelled")
def ending() -> State:
    """Is cancelled while it is at work, and says what it has stored."""
    flow_run = runtime.flow_run.id
    assert flow_run is not None
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(flow_run), Cancelling(), force=True)
    leave_last_word(flow_run, f"stored at step 3; {GO_ON}")
    return Failed(message="stored at step 3")


@pytest.mark.usefixtures("_engine_as_it_was")
def test_the_log_of_a_cancelled_run_has_no_trace_of_the_engine(
    prefect_server: str, left: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(ending)
    with pytest.raises(UnfinishedRun):
        run_flow(ending, flow_run=run, error_logger=flow_run_logger(flow_run=run))
    assert left == [f"cancelled: stored at step 3; {GO_ON}"]
    assert "Traceback" not in caplog.text
    logging.getLogger("prefect.engine").error("another error", exc_info=ValueError("of ours"))
    assert "ValueError: of ours" in caplog.text


@pytest.mark.parametrize("state", [Running(), Completed(), Cancelled()], ids=["running", "completed", "cancelled"])
def test_a_run_that_is_not_being_cancelled_gets_no_such_word(
    prefect_server: str, left: list[str], state: State
) -> None:
    hook(run_in(state))
    assert not left


@pytest.mark.parametrize(
    ("stage", "folder", "said"),
    [("", "", "no stage had begun"), ("dataset", "/nowhere", "dataset: what is finished of it is kept")],
)
def test_a_silent_run_tells_what_is_on_record(stage: str, folder: str, said: str) -> None:
    record = FlowRunRecord("0", socket.gethostname(), 1, "", stage, folder)
    assert said in of_the_silent(record)


def test_a_record_of_an_earlier_version_is_read() -> None:
    with recorded("0"):
        pass
    assert run_record("0") is not None
    assert run_record("1") is None
    note_spoken("0")
    note_spoken("1")
    found = run_record("0")
    assert found is not None
    assert found.has_spoken
    path = records._path(found)
    path.write_text(path.read_text().replace(', "has_spoken": true', ""))
    found = run_record("0")
    assert found is not None
    assert not found.has_spoken


@pytest.mark.parametrize(
    ("state", "runner_s", "is_said"),
    [(Cancelled(), AGES_S, True), (Cancelling(), -1.0, True), (Cancelling(), AGES_S, False), (Running(), -1.0, False)],
    ids=["cancelled", "no runner ends it", "the runner ends it", "not cancelled"],
)
def test_the_last_word_waits_for_the_runner_but_not_for_ever(
    prefect_server: str, state: State, runner_s: float, is_said: bool
) -> None:
    run = run_in(state)
    assert say(run, "the last word", patience_s=1.0, runner_s=runner_s) == is_said
    after = state_of(run)
    assert (after.is_cancelled() and after.message == "the last word") == is_said


def test_a_process_whose_flow_was_never_called_ends_its_run(prefect_server: str) -> None:
    """The engine calls no body where the run is being cancelled already; here nobody but the process's end is left."""
    run = run_in(Cancelling())
    code = "import flows.operations.last_word as w; import flows.operations.cancels as c; "
    code += "c.speak_later = lambda run, message: w.say(c.UUID(run), message, patience_s=1.0, runner_s=-1); "
    code += "c.speak_if_never_begun()"
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": str(run)}
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, check=True, timeout=AGES_S)
    assert state_of(run).is_cancelled()
    assert state_of(run).message == f"cancelled: it had not begun, and nothing was computed; {GO_ON}"


@pytest.mark.parametrize("said", ["", "Flow run was cancelled before execution started."])
def test_a_run_that_was_cancelled_before_it_began_says_so_though_no_hook_was_called(
    prefect_server: str, said: str
) -> None:
    cancelled, begun = run_in(Cancelled(message=said)), run_in(Running())
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(begun, Cancelled(message=said), force=True)
        name = client.read_flow_run(cancelled).name
    wanted = f"cancelled: it had not begun, and nothing was computed; {GO_ON}"
    explain_never_begun()
    assert state_of(cancelled).message == wanted
    assert state_of(begun).message == said
    assert not [each for each in explain_never_begun() if each.startswith(f"{name} ")]


def test_a_run_that_crashed_before_it_began_says_how_it_goes_on(prefect_server: str) -> None:
    """As when its process was killed while it imported; the hook finds nothing on record then."""
    crashed = run_in(Crashed(message="Flow run process exited with status code: -9."))
    wanted = f"Flow run process exited with status code: -9: it had not begun, and nothing was computed; {GO_ON}"
    explain_never_begun()
    assert state_of(crashed).is_crashed()
    assert state_of(crashed).message == wanted
    explain_never_begun()
    assert state_of(crashed).message == wanted


def test_a_runner_that_is_late_does_not_write_over_the_last_word(prefect_server: str) -> None:
    run = run_in(Cancelling())
    options = {"patience_s": AGES_S, "runner_s": -1.0}
    in_context = contextvars.copy_context().run  # with the address of the server
    speaker = threading.Thread(target=in_context, args=(say, run, "the last word"), kwargs=options)
    speaker.start()
    wait_until(lambda: state_of(run).is_cancelled(), "the word of one that thought to be alone")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelled(message="Flow run was cancelled successfully."), force=True)
    speaker.join(timeout=AGES_S)
    assert state_of(run).message == "the last word"
