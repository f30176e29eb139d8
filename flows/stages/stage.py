"""One stage of a pipeline as a Prefect task: a spec goes in, a report comes out, the run page shows what happens.

The job itself knows whether its spec is done; this room only shows it. A failed job ends the run with the job's own
sentence instead of a stack trace, which nobody but the job's author could use.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from prefect.states import Completed, Failed

from flows.operations.cancels import leave_last_word, speak_if_never_begun
from flows.operations.ends import GO_ON, standing, with_standing
from flows.operations.orphan import stopped_when_unwanted, suspension
from flows.operations.other_runs import is_over
from flows.operations.outage import await_server, server_address
from flows.operations.own_output import say_into_own_file
from flows.operations.stopping import meet_stop_request, stopped_by_signal
from flows.pages.live import LivePage
from flows.pages.progress import RunPageSink
from infinity import storage
from infinity.jobs.cluster.actors import WorkersError
from infinity.jobs.cluster.connection import connect
from infinity.jobs.ownership import STORE_PATIENCE_S
from infinity.jobs.progress import ProgressSink
from infinity.jobs.registry import Job, job_of
from infinity.jobs.spec import JobReport, JobSpec, is_done, load_report
from infinity.jobs.submission.client import SubmissionError, is_job_address
from infinity.jobs.submission.submit import StoppedError, Watcher, run_as_job
from infinity.jobs.training.base import TrainSpec
from infinity.jobs.watching import NoClusterError
from infinity.training.learner import TrainingError
from infra.records import note_stage, recorded
from infra.settings import settings

P = ParamSpec("P")
R = TypeVar("R")
Report = TypeVar("Report", bound=JobReport)

UNREACHABLE = "Unreachable"
"""Name of the state of a stage whose cluster did not answer or broke off: the one failure that a retry may cure."""


FORESEEN = (ValueError, OSError, TrainingError, WorkersError, SubmissionError)
"""Errors that jobs raise on purpose; their text is written for the user."""

_flow_exit: ContextVar[ExitStack | None] = ContextVar("flow_exit", default=None)


class StageFailed(Exception):
    """A stage could not be done; the message is for the user."""


@dataclass(frozen=True, slots=True)
class StageResult(Generic[Report]):
    """Result of a stage.

    Attributes:
        report: The job's report.
        was_done: Whether it was finished by an earlier run, so that nothing was computed now.
    """

    report: Report
    was_done: bool


def run_stage(stage: str, spec: JobSpec, report_type: type[Report]) -> StageResult[Report]:
    """Run one job as a task of the flow run that calls this, or find its report.

    Args:
        stage: Name of the stage on the run page: lower case, dashes.
        spec: Spec of the job.
        report_type: Type of the job's report.

    Raises:
        StageFailed: The job failed.
    """
    state = cast("State[StageResult[Report]]", _run_job(stage, spec, return_state=True))
    if not state.is_completed():
        raise StageFailed(f"{stage}: {state.message}")
    outcome = state.result()
    assert isinstance(outcome, StageResult)
    assert isinstance(outcome.report, report_type)
    return outcome


def _is_worth_a_retry(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether a retry may help: a cluster may recover, a wrong parameter stays wrong, storage has retried."""
    return state.name == UNREACHABLE


@task(
    name="stage",
    task_run_name="{stage}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_worth_a_retry,
)
def _run_job(stage: str, spec: JobSpec) -> State[Any]:
    state = _end_of_job(stage, spec)
    if state.is_failed():  # a server that is too busy to hear of it makes a crash of it, which then names the cause
        note_stage(stage, spec.folder, state.message or "")
    await_server()
    return state


def _end_of_job(stage: str, spec: JobSpec) -> State[Any]:
    logger = get_run_logger()
    try:
        if meet_stop_request():  # the interrupt came where nobody could hear it
            return Failed(message=_asked_to_end(spec))
        job = job_of(spec.kind)
        if is_done(spec):
            logger.info("%s was done before; nothing to compute. Its files: %s", stage, spec.folder)
            report = load_report(spec, job.report_type)
            return Completed(name="Cached", message=f"done before in {spec.folder}", data=StageResult(report, True))
        logger.info("%s begins; its files go to %s", stage, spec.folder)
        note_stage(stage, spec.folder)
        with RunPageSink(stage, live=LivePage(stage, spec).show) as page, storage.patient(STORE_PATIENCE_S):
            report = _report_of(job, spec, page)
            await_server()  # the last word of the bar, too
        return Completed(message=f"files in {spec.folder}", data=StageResult(report, False))
    except (ConnectionError, TimeoutError) as error:
        if meet_stop_request():
            return Failed(message=_asked_to_end(spec))
        if isinstance(error, NoClusterError) and task_run.run_count == 1:
            return Failed(message=str(error))  # waiting for an address that never answered helps nobody
        _disconnect()
        return Failed(name=UNREACHABLE, message=with_standing(spec, str(error), may_pass=True))
    except StoppedError as error:
        return Failed(message=_asked_to_end(spec, str(error)))
    except FORESEEN as error:
        logger.debug("%s failed", stage, exc_info=True)
        return Failed(message=with_standing(spec, str(error)))
    except KeyboardInterrupt:
        if not meet_stop_request():
            raise
        return Failed(message=_asked_to_end(spec))
    except Exception as error:
        if meet_stop_request():  # an interrupt in the middle of an import leaves half a module, for example
            return Failed(message=_asked_to_end(spec))
        logger.exception("%s failed in a way that no job foresees", stage)
        return Failed(message=with_standing(spec, _unforeseen(error)))


def _asked_to_end(spec: JobSpec, said: str = "asked to end") -> str:
    """Return a sentence about a stage that was asked to end, which names what is kept."""
    stands = standing(spec.folder) if isinstance(spec, TrainSpec) else "what is finished of it is kept"
    return f"{said}; {stands or 'no step of it is stored yet'}; {GO_ON}"


def _unforeseen(error: Exception) -> str:
    """Return a sentence about an error that no job raises on purpose, and where to look."""
    first = str(error).strip().partition("\n")[0][:300]
    return (
        f"{type(error).__name__}{f': {first}' if first else ''}, which no job foresees; the log of this run has its "
        "trace, and `infinity doctor` looks for what is wrong with the set-up"
    )


def _report_of(job: Job, spec: JobSpec, page: ProgressSink) -> JobReport:
    """Do a stage in this process, or as a job of the cluster whose dashboard RAY_ADDRESS names."""
    address = settings().ray_address
    if address is None or not is_job_address(address):
        with _connected():
            return job.run(spec, progress=page)
    watcher = Watcher(str(flow_run.id), stops=is_over, told=get_run_logger().info)
    return run_as_job(spec, job.report_type, address=address, progress=page, watcher=watcher)


@contextmanager
def _connected() -> Iterator[None]:
    """Connect to Ray for one stage; inside a flow body the first stage that needs it connects for all that follow."""
    # Recipes give a worker two threads, which must not be refused on a machine of one core.
    num_cpus = settings().ray_num_cpus or max(2, os.cpu_count() or 1)
    connection = connect(
        settings().ray_address,
        num_cpus=num_cpus,
        object_store_bytes=settings().ray_object_store,
        memory_bytes=settings().ray_memory,
        spill=None if settings().ray_spill is None else str(settings().ray_spill),
    )
    if (until_flow_ends := _flow_exit.get()) is not None:
        until_flow_ends.enter_context(connection)
        yield
    else:
        with connection:
            yield


def _disconnect() -> None:
    """Leave a cluster that broke off, so that a retry connects to a new one."""
    if (until_flow_ends := _flow_exit.get()) is not None:
        until_flow_ends.close()


def flow_body(body: Callable[P, R]) -> Callable[P, R]:
    """Wrap the body of a flow: one connection to Ray, a record on this machine, an end that a user can read.

    A flow that cannot be done ends as Failed with one sentence instead of a trace of its internals. Stands below
    ``@flow``.
    """

    speak_if_never_begun()

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        watched: AbstractContextManager[None] = nullcontext()
        if os.environ.get("PREFECT__FLOW_RUN_ID"):  # a worker has started this process
            say_into_own_file(str(flow_run.id))
            watched = stopped_when_unwanted(str(flow_run.id), is_suspended=suspension())
        with recorded(str(flow_run.id), server_address()), watched:
            end = _end_of_flow(lambda: body(*args, **kwargs))
            if await_server() and isinstance(end, State) and end.is_failed():
                leave_last_word(str(flow_run.id), end.message or "")
            return end

    return run


def _end_of_flow(body: Callable[[], R]) -> R:
    logger = get_run_logger()
    with stopped_by_signal():
        try:
            return _with_one_connection(body)
        except KeyboardInterrupt:
            if not meet_stop_request():
                raise
            return cast("R", Failed(message=f"asked to end outside of a stage; what is finished is kept; {GO_ON}"))
        except (StageFailed, *FORESEEN) as error:
            logger.debug("the flow failed", exc_info=True)
            # A cluster that is lost between two stages ends the flow there, where no retry helps.
            more = f"; what is finished is kept; {GO_ON}" if isinstance(error, ConnectionError) else ""
            logger.error("%s%s", error, more)
            return cast("R", Failed(message=f"{error}{more}"))


def _with_one_connection(body: Callable[[], R]) -> R:
    with ExitStack() as exit_stack:
        token = _flow_exit.set(exit_stack)
        try:
            return body()
        finally:
            _flow_exit.reset(token)
