"""Test claims of the paper: every job of a study is a task, and the verdict stands on the run page."""

from collections.abc import Sequence
from typing import Literal

from prefect import flow
from prefect.logging import get_run_logger

from flows.operations.cancels import explain_cancel
from flows.operations.reaper import explain_crash
from flows.pages.studies import publish_studies
from flows.stages.stage import flow_body, run_stage
from infinity import storage
from infinity.jobs.progress import ProgressSink
from infinity.jobs.registry import job_of
from infinity.jobs.spec import JobSpec
from infinity.reporting.study import StudyResult
from infinity.studies.grid import parse_seeds
from infinity.studies.pages import load_study, names
from infinity.studies.running import PAGE_FILE, StudyRun, run_study, write_overview
from infinity.studies.world import World
from infra.settings import settings


@flow(name="study", flow_run_name="{name}: study", on_crashed=[explain_crash], on_cancellation=[explain_cancel])
@flow_body
def study(
    name: str = "all",
    size: Literal["mini", "small", "paper"] = "small",
    seeds: str = "0-2",
    manifest: str | None = "",
    budget_minutes: float | None = 0.0,
) -> list[StudyResult]:
    """Test claims of the paper by trainings and evaluations; what is done is not repeated.

    Args:
        name: Name of a study, or all.
        size: Size of the trainings: mini learns nothing, small takes minutes each, paper needs GPUs.
        seeds: Seeds as numbers and ranges, such as 0-2,7.
        manifest: Manifest of a data set, for the size paper.
        budget_minutes: Minutes per study after which no further cell begins. 0: no limit.
    """
    world = World(size, storage.join(storage.absolute(settings().runs), "studies"), manifest or None)
    wanted = [load_study(each) for each in (names() if name == "all" else [name])]
    budget_s = 60 * budget_minutes if budget_minutes else None
    results: list[tuple[StudyResult, str]] = []
    for each in wanted:
        run = StudyRun(study=each, world=world, seeds=parse_seeds(seeds), budget_s=budget_s)
        result = run_study(run, run_jobs=_run_as_tasks)
        get_run_logger().info("claim %d, %s: %s", result.number, result.name, result.verdict)
        results.append((result, storage.join(run.folder, PAGE_FILE)))
        publish_studies(results, write_overview(world, results))
    return [result for result, _ in results]


def _run_as_tasks(jobs: Sequence[JobSpec], progress: ProgressSink) -> None:
    """Run every job as a task of its own, whose bar stands on its page."""
    for job in jobs:
        run_stage(f"{job.kind}-{job.digest()[:8]}", job, job_of(job.kind).report_type)
