"""``infinity study``: test a claim of the paper, or all of them, and write one page and one JSON file per claim."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Cluster, clear_errors, out, show_table
from infinity.cli.training.running import LogSink, log_to_terminal

if TYPE_CHECKING:
    from infinity.reporting.study import StudyResult
    from infinity.studies.running import StudyRun
    from infinity.studies.world import World

logger = logging.getLogger(__name__)


def study(
    name: Annotated[
        str | None, typer.Argument(help="Name of a study, path of its page, or all; without it the names are listed.")
    ] = None,
    size: Annotated[str, typer.Option(help="mini (seconds, learns nothing), small (minutes) or paper (GPUs).")] = (
        "small"
    ),
    seeds: Annotated[str, typer.Option(help="Seeds as numbers and ranges, such as 0-2,7.")] = "0-2",
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of all jobs and results.")] = "runs/studies",
    manifest: Annotated[str | None, typer.Option(help="Manifest of a data set, for the size paper.")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Folder of a finished run or training that draws instead of a trained model; one per seed."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Minutes after which no further cell begins; the command goes on later.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print the cost, write it down for the page, and run nothing.")
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option(help="Speed of a device in practice, in 10^12 operations per second; else a CPU is timed."),
    ] = None,
    ray_address: Cluster = None,
    here: Annotated[bool, typer.Option("--here", help="Run in this process, one job after the other, without Ray.")] = (
        False
    ),
) -> None:
    """Test claims of the paper: train and evaluate what is not done, judge by the rule, write page and JSON."""
    with clear_errors():
        from infinity.studies.pages import load_study, names

        if tflops is not None and not 0 < tflops < float("inf"):
            raise ValueError(f"--tflops: expected a speed above 0, got {tflops:g}")
        if name is None:
            studies = map(load_study, names())
            show_table(("", "", ""), [(str(each.number), each.name, each.claim) for each in studies])
            return
        runs = _runs(name, _worlds(size, output, manifest, models or []), seeds, budget)
        log_to_terminal()
        if estimate:
            _print_estimate(runs, tflops, here)
            return
        _run(runs, ray_address, here)


def _worlds(size: str, output: str, manifest: str | None, models: list[str]) -> tuple[World, World]:
    """Return the world of studies that train, and that of those that only draw, with the finished models."""
    from dataclasses import replace

    from infinity import storage
    from infinity.studies.finished import finished_model
    from infinity.studies.world import World

    trained = World(size, storage.absolute(output), manifest)  # type: ignore[arg-type]  # checked
    return trained, replace(trained, models=tuple(finished_model(storage.absolute(folder)) for folder in models))


def _runs(name: str, worlds: tuple[World, World], seeds: str, budget: float | None) -> list[StudyRun]:
    """Return the run of a study, which must fit finished models, or of all, of which some only draw."""
    from infinity.studies.grid import parse_seeds
    from infinity.studies.pages import load_study, names
    from infinity.studies.running import StudyRun

    trained, drawn = worlds
    return [
        StudyRun(
            study=each,
            world=drawn if each.only_draws or name != "all" else trained,
            seeds=parse_seeds(seeds),
            budget_s=None if budget is None else 60 * budget,
        )
        for each in map(load_study, names() if name == "all" else [name])
    ]


def _print_estimate(runs: list[StudyRun], tflops: float | None, here: bool) -> None:
    from contextlib import nullcontext

    from infinity.jobs.cluster.connection import in_process
    from infinity.studies.cost import CostModel
    from infinity.studies.estimates import write_estimate

    model = CostModel(flops_per_s=None if tflops is None else tflops * 1e12)
    rows = []
    total = 0.0
    with in_process() if here else nullcontext():
        for run in runs:
            logger.info("%s: estimating", run.study.name)
            costs = model.costs(run.cells)
            seconds = write_estimate(run.folder, costs, model.pace or 1.0).seconds
            total += seconds
            longest = max(costs, key=lambda cost: cost.seconds)
            done = sum(cost.source == "done" for cost in costs)
            rows.append(
                (run.study.name, str(len(costs)), str(done), f"{seconds / 3600:.3g}",
                 f"{longest.job.kind}, {longest.seconds / 60:.3g} min")
            )  # fmt: skip
    show_table(("study", "jobs", "done", "hours left", "longest job"), rows, title="Jobs that are not done")
    shared = " (studies share jobs, so that all together take less)" if len(runs) > 1 else ""
    out.print(f"{total:.0f} s = {total / 3600:.3g} hours in all{shared}")


def _run(runs: list[StudyRun], ray_address: str | None, here: bool) -> None:
    from infinity import storage
    from infinity.jobs.cluster.actors import WorkersError
    from infinity.jobs.cluster.connection import connect, in_process
    from infinity.studies.running import PAGE_FILE, run_study, write_overview
    from infinity.training.learner import TrainingError

    results: list[tuple[StudyResult, str]] = []
    try:
        with in_process() if here else connect(ray_address):
            for run in runs:
                result = run_study(run, progress=LogSink())
                results.append((result, storage.join(run.folder, PAGE_FILE)))
                out.say(f"{result.number:2}  {result.name}: {result.verdict}  {results[-1][1]}")
    except (TrainingError, WorkersError) as error:
        raise ValueError(f"{error}; the same command goes on") from error
    if len(runs) > 1:
        out.say(write_overview(runs[0].world, results))
