"""What a stage shows when it is done, refused or out of reach; the jobs are stand-ins."""

import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from prefect import flow

from flows.stages import stage as stage_module
from flows.stages.stage import StageResult, flow_body, run_stage
from infinity.jobs import registry
from infinity.jobs.progress import Progress, ProgressSink
from infinity.jobs.spec import JobReport, JobSpec, begin, commit
from infinity.jobs.submission.submit import StoppedError
from infinity.jobs.watching import ClusterLostError, NoClusterError
from tests.fixtures.limits import AGES_S

pytestmark = [pytest.mark.prefect, pytest.mark.ray]


@dataclass(frozen=True, kw_only=True, slots=True)
class CountSpec(JobSpec):
    """A job that counts."""

    kind: ClassVar[str] = "count"

    number: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CountReport(JobReport):
    """What it counted to."""

    number: int


Run = Callable[..., CountReport]


def _count(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
    begin(spec)
    for step in range(spec.number + 1):
        progress(Progress(step / spec.number, f"step {step}"))
    return commit(spec, CountReport(number=spec.number))


@pytest.fixture
def use_job(monkeypatch: pytest.MonkeyPatch, prefect_server: str, local_ray: None) -> Callable[[Run], None]:
    """Registers a function as the job of the kind "count"."""

    def register(run: Run) -> None:
        module = types.ModuleType("infinity.jobs.count")
        module.__dict__.update(CountSpec=CountSpec, CountReport=CountReport, run=run)
        monkeypatch.setitem(sys.modules, "infinity.jobs.count", module)
        monkeypatch.setitem(registry._NAMES, "count", ("count", "CountSpec", "CountReport"))

    return register


@flow(name="count")
@flow_body
def _flow(output: str) -> StageResult[CountReport]:
    return run_stage("count", CountSpec(output=output), CountReport)


def test_a_finished_stage_is_found_and_not_run_again(use_job: Callable[[Run], None], tmp_path: Path) -> None:
    use_job(_count)
    assert _flow(str(tmp_path)) == StageResult(CountReport(number=3), was_done=False)

    def never(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        raise AssertionError("ran again")

    use_job(never)
    assert _flow(str(tmp_path)) == StageResult(CountReport(number=3), was_done=True)


def test_a_refused_stage_ends_the_flow_with_its_sentence_at_once(
    use_job: Callable[[Run], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def refuse(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        calls.append(1)
        raise ValueError("number: expected an even one, got 3")

    use_job(refuse)
    state = _flow(str(tmp_path), return_state=True)
    assert state.is_failed()
    assert state.message == "count: number: expected an even one, got 3"
    assert len(calls) == 1
    assert "Traceback" not in caplog.text


def test_a_stage_out_of_reach_is_tried_again(
    use_job: Callable[[Run], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def flaky(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("the cluster is gone")
        return _count(spec, progress=progress)

    use_job(flaky)
    monkeypatch.setattr(stage_module._run_job, "retry_delay_seconds", [0, 0])
    assert _flow(str(tmp_path)).report == CountReport(number=3)
    assert len(calls) == 3


def test_a_cluster_that_starts_again_may_take_longer_than_one_retry(
    use_job: Callable[[Run], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module._run_job, "retry_delay_seconds", [0, 0])
    errors: list[Exception] = [ClusterLostError("not answered for 40 s"), NoClusterError("no Ray cluster answers")]

    def back_at_last(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        if errors:
            raise errors.pop(0)
        return _count(spec, progress=progress)

    use_job(back_at_last)
    assert _flow(str(tmp_path)) == StageResult(CountReport(number=3), was_done=False)


def test_an_address_that_never_answered_is_not_asked_again(use_job: Callable[[Run], None], tmp_path: Path) -> None:
    asked: list[None] = []

    def nobody(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        asked.append(None)
        raise NoClusterError("no Ray cluster answers at head:6379")

    use_job(nobody)
    state = _flow(str(tmp_path), return_state=True)
    assert state.is_failed()
    assert state.message == "count: no Ray cluster answers at head:6379"
    assert len(asked) == 1


def test_a_stage_that_was_stopped_as_a_job_says_how_it_goes_on(use_job: Callable[[Run], None], tmp_path: Path) -> None:
    def stopped(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        raise StoppedError("asked to end; the Ray job infinity-count-1 has ended")

    use_job(stopped)
    state = _flow(str(tmp_path), return_state=True)
    assert state.is_failed()
    assert state.message == (
        "count: asked to end; the Ray job infinity-count-1 has ended; what is finished of it is kept; "
        "start the same again to go on"
    )


def test_a_fault_of_ours_keeps_its_trace_in_the_log(
    use_job: Callable[[Run], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        raise TypeError("a fault")

    use_job(broken)
    state = _flow(str(tmp_path), return_state=True)
    assert state.is_failed()
    assert "count failed in a way that no job foresees" in caplog.text
    assert "raise TypeError" in caplog.text
    assert state.message is not None
    assert state.message.startswith(
        "count: TypeError: a fault, which no job foresees; the log of this run has its trace"
    )
    assert "infinity doctor" in state.message


def _ask_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _in_python() -> None:
    _ask_to_end()
    time.sleep(AGES_S)


def _in_ray() -> None:
    import ray

    def sleep() -> None:
        time.sleep(5.0)  # short: nobody stops it

    sleeps = ray.remote(num_cpus=0)(sleep).remote()
    threading.Timer(0.2, _ask_to_end).start()
    ray.get(sleeps)
    raise AssertionError("was not interrupted")


def _while_the_cluster_breaks_off() -> None:
    try:
        _in_python()
    except KeyboardInterrupt as error:
        raise ConnectionError("the cluster is gone") from error


@pytest.mark.parametrize("where", [_in_python, _in_ray, _while_the_cluster_breaks_off])
def test_a_stage_that_is_asked_to_end_ends_at_once_with_a_sentence(
    use_job: Callable[[Run], None], tmp_path: Path, where: Callable[[], None]
) -> None:
    calls = list[int]()

    def run(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        calls.append(1)
        where()
        raise AssertionError("went on")

    use_job(run)
    state = _flow(str(tmp_path), return_state=True)
    assert state.is_failed()
    assert state.message == "count: asked to end; what is finished of it is kept; start the same again to go on"
    assert len(calls) == 1


@flow(name="between")
@flow_body
def _between() -> None:
    _in_python()


def test_a_cluster_that_is_lost_between_two_stages_says_how_the_flow_goes_on(prefect_server: str) -> None:
    @flow
    @flow_body
    def between() -> None:
        raise ClusterLostError("the local Ray broke off: its process raylet died")

    state = between(return_state=True)
    assert state.is_failed()
    assert state.message == (
        "the local Ray broke off: its process raylet died; what is finished is kept; start the same again to go on"
    )


def test_a_flow_that_is_asked_to_end_outside_of_a_stage_ends_with_a_sentence(prefect_server: str) -> None:
    state = _between(return_state=True)
    assert state.is_failed()
    assert state.message == "asked to end outside of a stage; what is finished is kept; start the same again to go on"


def test_a_flow_that_waits_for_its_retry_ends_when_it_is_asked(
    use_job: Callable[[Run], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        threading.Timer(1.0, _ask_to_end).start()
        raise ConnectionError("the cluster is gone")

    use_job(away)
    monkeypatch.setattr(stage_module._run_job, "retry_delay_seconds", [int(AGES_S), int(AGES_S)])
    state = _flow(str(tmp_path), return_state=True)
    assert state.is_failed()
    assert "asked to end" in str(state.message)


def test_a_request_that_was_not_heard_stops_the_next_stage(
    use_job: Callable[[Run], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt in a finalizer, or in a callback of C, is printed and lost."""
    lost = list[int]()

    class Deaf:
        def __del__(self) -> None:
            _ask_to_end()
            time.sleep(0.1)

    def never(spec: CountSpec, *, progress: ProgressSink) -> CountReport:
        raise AssertionError("began")

    @flow(name="deaf")
    @flow_body
    def deaf(output: str) -> StageResult[CountReport]:
        Deaf()
        return run_stage("count", CountSpec(output=output), CountReport)

    use_job(never)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: lost.append(1))
    state = deaf(str(tmp_path), return_state=True)
    assert lost
    assert state.is_failed()
    assert "count: asked to end" in str(state.message)
