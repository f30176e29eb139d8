"""Run a study: the cells that are not done, within a budget, and then its verdict, page and JSON file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from infinity import storage
from infinity.config import digest_of
from infinity.jobs.cluster.connection import is_in_process
from infinity.jobs.evaluation.evaluate import run_all
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.jobs.registry import run_spec
from infinity.jobs.spec import JobSpec, is_done
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.study import Cost, StudyResult, StudyRow, studies_html, study_html
from infinity.studies.estimates import estimated_seconds
from infinity.studies.grid import Cell, cells_of, jobs_of
from infinity.studies.judging import NOT_RUN, is_hopeless, judge_contrast, summaries, verdict_of
from infinity.studies.power_law import Prediction, judge_prediction, predict
from infinity.studies.study import Study
from infinity.studies.values import note_seconds, processor_seconds_of, seconds_of, values_of
from infinity.studies.world import World
from infinity.training.learner import InterruptedTraining, NonFiniteLossError
from infinity.training.tokenizer.collapse import CollapseError

logger = logging.getLogger(__name__)

OVERVIEW_FILE = "studies.html"
PAGE_FILE, JSON_FILE, PREDICTION_FILE, HOPELESS_FILE = "study.html", "study.json", "prediction.json", "hopeless.txt"
HOPELESS = (CollapseError, NonFiniteLossError)
"""Ends of a training that a repetition would meet again."""

RunJobs = Callable[[Sequence[JobSpec], ProgressSink], None]
"""Runs jobs of one kind that are not done: one, or several evaluations."""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One run of a study.

    Attributes:
        world: Size, and the folder of all jobs.
        budget_s: Seconds after which no further cell begins; None for no limit.
    """

    study: Study
    world: World
    seeds: tuple[int, ...]
    budget_s: float | None = None

    @cached_property
    def folder(self) -> str:
        """URI of the result's folder, named by all jobs of the study."""
        digest = digest_of([job.folder.removeprefix(self.world.output) for job in jobs_of(self.cells)])
        return storage.join(self.world.output, f"study-{self.study.name}-{digest}")

    @cached_property
    def cells(self) -> list[Cell]:
        """Return all cells in the order in which they run."""
        return cells_of(self.study, self.world, self.seeds)


def run_jobs(jobs: Sequence[JobSpec], progress: ProgressSink) -> None:
    """Run jobs on the connected cluster, or by one worker in this process; evaluations share their workers."""
    if is_in_process():
        jobs = [alone(job) for job in jobs]
    evaluations = [job for job in jobs if isinstance(job, EvaluateSpec)]
    if evaluations:
        run_all(evaluations, progress=progress)
    for job in jobs:
        if not isinstance(job, EvaluateSpec):
            run_spec(job, progress=progress)


def alone(job: JobSpec) -> JobSpec:
    """Return a training with one worker, which does the micro-batches of all; its folder and numbers stay the same."""
    if isinstance(job, TrainTokenizerSpec | TrainTransformerSpec):
        return job.replace(workers=job.workers.replace(num_workers=1))
    return job


def run_study(run: StudyRun, *, progress: ProgressSink = silent, run_jobs: RunJobs = run_jobs) -> StudyResult:
    """Run what is not done, and write the result; cells that are done are not repeated.

    Raises:
        ValueError: The seeds or the arms do not fit the study.
        StorageError: A file cannot be read or written.
        InterruptedTraining: This process got a SIGTERM; the same call goes on.
        WorkersError: The cluster has no room, or workers die.
    """
    return _Runner(run, progress, run_jobs).result()


@dataclass(slots=True)
class _Runner:
    """The state of one run: rows so far, and when it began."""

    run: StudyRun
    progress: ProgressSink
    run_jobs: RunJobs
    rows: list[StudyRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    prediction: Prediction | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if models := self.run.world.models:
            of = ", ".join(f"{model.transformer.stage} of seed {model.transformer.seed}" for model in models)
            self.notes.append(f"Drawn with finished models, nothing was trained: {of}.")

    def result(self) -> StudyResult:
        cells, study = self.run.cells, self.run.study
        # Trainings of finished models lie elsewhere, and are no part of this study's cost.
        jobs = [job for job in jobs_of(cells) if job.output == self.run.world.output]
        done_before = sum(map(is_done, jobs))
        estimated_s = estimated_seconds(self.run.folder, len(jobs) - done_before)
        held_out = None if study.power_law is None else study.power_law.held_out
        groups = [[cell for cell in cells if cell.seed == seed and cell.arm != held_out] for seed in self.run.seeds]
        groups += [[cell for cell in cells if cell.arm == held_out]]
        for number, group in enumerate(groups):
            if group and group[0].arm == held_out:
                self.prediction = self._predict(group)
            self._run_group(group, section(self.progress, number / len(groups), (number + 1) / len(groups)))
        return self._write(jobs, done_before, estimated_s)

    def _run_group(self, group: Sequence[Cell], progress: ProgressSink) -> None:
        """Run the cells of one seed: first all trainings, then all evaluations together."""
        left = {cell: note for cell in group if (note := self._left(cell))}
        waiting: list[JobSpec] = []
        for number, cell in enumerate(group):
            if cell not in left:
                share = section(progress, 0.8 * number / len(group), 0.8 * (number + 1) / len(group))
                note = self._train(cell, share)
                if note:
                    left[cell] = note
                else:
                    waiting += [job for job in cell.jobs if isinstance(job, EvaluateSpec) and not is_done(job)]
        if waiting:
            self._timed(list({job.folder: job for job in waiting}.values()), section(progress, 0.8, 1.0))
        self.rows += [self._row(cell, left.get(cell, "")) for cell in group]

    def _left(self, cell: Cell) -> str:
        """Return why a cell is not run now, or an empty text; a cell that is done is always read."""
        if all(map(is_done, cell.jobs)):
            return ""
        if reason := is_hopeless(self.run.study, cell.arm, self.rows):
            return NOT_RUN + reason
        budget = self.run.budget_s
        if budget is not None and time.monotonic() - self.started >= budget:
            note = f"the budget of {budget / 60:g} minutes was spent; the same command goes on"
            if note not in self.notes:
                self.notes.append(note)
            return NOT_RUN + note
        return ""

    def _train(self, cell: Cell, progress: ProgressSink) -> str:
        """Run the jobs of a cell but its evaluations; return why it is hopeless, or an empty text."""
        for job in cell.jobs:
            if isinstance(job, EvaluateSpec) or is_done(job):
                continue
            mark = storage.join(job.folder, HOPELESS_FILE)
            if storage.exists(mark):
                return storage.read_text(mark)
            logger.info("%s, seed %d: %s begins", cell.arm, cell.seed, job.kind)
            try:
                self._timed([job], _titled(progress, f"{cell.arm}, seed {cell.seed}"))
            except InterruptedTraining:
                raise
            except HOPELESS as error:
                note = f"the {job.kind}'s training failed: {error}"
                storage.write_text(mark, note)
                logger.warning("%s, seed %d: %s", cell.arm, cell.seed, note)
                return note
        return ""

    def _timed(self, jobs: Sequence[JobSpec], progress: ProgressSink) -> None:
        """Run jobs together, and note beside each its share of the time, from which other jobs are estimated.

        Processor seconds are known where the jobs run in this process alone.
        """
        began, processor = time.monotonic(), time.process_time()
        self.run_jobs(jobs, progress)
        used = time.process_time() - processor if is_in_process() else None
        note_seconds(jobs, time.monotonic() - began, used)

    def _row(self, cell: Cell, note: str) -> StudyRow:
        folders = tuple(job.folder for job in cell.jobs)
        if note:
            return StudyRow(arm=cell.arm, seed=cell.seed, values={}, note=note, folders=folders)
        return StudyRow(
            arm=cell.arm,
            seed=cell.seed,
            values=values_of(cell.jobs, self.run.world),
            seconds=seconds_of(cell.jobs[-1]),
            folders=folders,
        )

    def _predict(self, group: Sequence[Cell]) -> Prediction | None:
        """Write the prediction down before the held-out arm is trained; one that was written is never replaced."""
        law = self.run.study.power_law
        assert law is not None
        uri = storage.join(self.run.folder, PREDICTION_FILE)
        if storage.exists(uri):
            return Prediction.parse(storage.read_text(uri), where=uri)
        try:
            found = predict(law, self.rows, num_new=len(group))
        except ValueError as error:
            self.notes.append(f"no prediction: {error}")
            return None
        storage.put_once(uri, found.dump().encode())
        return found

    def _write(self, jobs: Sequence[JobSpec], done_before: int, estimated_s: float | None) -> StudyResult:
        run, study = self.run, self.run.study
        contrasts = [judge_contrast(contrast, self.rows) for contrast in study.contrasts]
        if study.power_law is not None:
            contrasts.append(judge_prediction(study.power_law, self.prediction, self.rows))
        result = StudyResult(
            name=study.name,
            number=study.number,
            title=study.title,
            claim=study.claim,
            source=study.source,
            size="finished models" if run.world.models else run.world.size,
            seeds=run.seeds,
            metric=study.metric,
            verdict=verdict_of(contrasts, self.rows),
            reason=study.reason,
            contrasts=tuple(contrasts),
            rows=tuple(self.rows),
            paper=study.paper,
            cost=Cost(
                estimated_s=estimated_s,
                spent_s=round(time.monotonic() - self.started, 2),
                jobs_s=round(sum(seconds_of(job) for job in jobs if is_done(job)), 2),
                num_jobs=len(jobs),
                num_done_before=done_before,
                processor_s=_processor_seconds(jobs),
            ),
            places=dict(study.places or {}),
            x_title=study.x_title,
            notes=tuple(self.notes),
        )
        write_result(run, result)
        self.progress(Progress(1.0, f"{study.name}: {result.verdict}"))
        return result


def write_result(run: StudyRun, result: StudyResult) -> None:
    """Write the JSON file and the page."""
    metrics = list(dict.fromkeys(contrast.metric for contrast in run.study.contrasts))
    tables = {metric: summaries(result.rows, metric) for metric in metrics}
    storage.write_text(storage.join(run.folder, JSON_FILE), result.dump())
    storage.write_text(storage.join(run.folder, PAGE_FILE), study_html(result, tables))


def write_overview(world: World, results: Sequence[tuple[StudyResult, str]]) -> str:
    """Write the page with the verdicts of several studies, and return its URI.

    Args:
        world: Size, and the folder of all jobs.
        results: Results, each with the URI of its own page.
    """
    page = storage.join(world.output, OVERVIEW_FILE)
    beside = [(result, uri.removeprefix(world.output).lstrip("/")) for result, uri in results]
    storage.write_text(page, studies_html(beside))
    return page


def _processor_seconds(jobs: Sequence[JobSpec]) -> float | None:
    """Return the processor seconds of all finished jobs; None where a job does not have them."""
    found = [processor_seconds_of(job) for job in jobs if is_done(job)]
    known = [seconds for seconds in found if seconds is not None]
    return round(sum(known), 2) if known and len(known) == len(found) else None


def _titled(progress: ProgressSink, title: str) -> ProgressSink:
    return lambda now: progress(Progress(now.fraction, f"{title}: {now.message}"))
