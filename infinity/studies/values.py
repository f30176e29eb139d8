"""Values of finished jobs by the names of their metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

from infinity import storage
from infinity.config import ConfigError
from infinity.jobs.estimate.traced import TracedReport
from infinity.jobs.evaluation.spec import EvaluateReport
from infinity.jobs.registry import job_of
from infinity.jobs.spec import JobReport, JobSpec, load_report
from infinity.jobs.training.base import TrainReport
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.studies.world import World

_MEASURED = {"tokenizer", "transformer", "traced", "evaluation"}
"""Kinds of jobs whose reports hold values."""
SECONDS_FILE = "study-seconds.txt"
SCORE = "score"
"""Name under which a study finds the score of the drawings at any size."""


def values_of(jobs: Sequence[JobSpec], world: World) -> dict[str, float]:
    """Return the values of all reports of an arm; where two jobs have a metric, the later one counts.

    Raises:
        StorageError: A job is not done.
    """
    found: dict[str, float] = {}
    for job in jobs:
        if job.kind in _MEASURED:
            job = job.located()
            found |= _values(job, load_report(job, job_of(job.kind).report_type))
    if world.score in found:
        found[SCORE] = found[world.score]
    return found


def _values(job: JobSpec, report: JobReport) -> dict[str, float]:
    if isinstance(report, EvaluateReport):
        return {score.metric: score.value for score in report.scores if score.value is not None}
    if isinstance(report, TracedReport):
        return dict(report.values)
    if isinstance(report, TrainReport):
        kind = "transformer" if isinstance(job, TrainTransformerSpec) else "tokenizer"
        final = {name: value for name, value in report.training.final.items() if "." not in name}
        measured = {f"{kind}.{name}": float(value) for name, value in final.items()}
        return measured | {f"{kind}.num_parameters": float(report.training.num_parameters)}
    return {}


def note_seconds(jobs: Sequence[JobSpec], seconds: float, processor: float | None = None) -> None:
    """Write beside the reports of jobs that ran together the share of each in their time, where none was noted.

    Another study that waited for a job notes nothing more: its time is that of waiting.

    Args:
        seconds: Seconds by the clock of all of them together.
        processor: Their processor seconds; None where they are not known.
    """
    lines = [f"{each / len(jobs):.2f}" for each in (seconds, processor) if each is not None]
    for job in jobs:
        uri = storage.join(job.located().folder, SECONDS_FILE)
        if not storage.exists(uri):
            storage.write_text(uri, "\n".join(lines))


def seconds_of(job: JobSpec) -> float:
    """Return how long a finished job took: what a study noted, else what its report says, else 0."""
    if noted := _noted(job):
        return noted[0]
    job = job.located()
    return float(getattr(load_report(job, job_of(job.kind).report_type), "seconds", 0.0))


def processor_seconds_of(job: JobSpec) -> float | None:
    """Return the processor seconds that a study noted of a finished job; None where it noted none."""
    noted = _noted(job)
    return noted[1] if len(noted) > 1 else None


def _noted(job: JobSpec) -> list[float]:
    uri = storage.join(job.located().folder, SECONDS_FILE)
    return _seconds_in(uri) if storage.exists(uri) else []


def _seconds_in(uri: str) -> list[float]:
    text = storage.read_bytes(uri).decode("utf-8", "replace").strip()
    try:
        seconds = [float(line) for line in text.split()]
    except ValueError:
        seconds = []
    if not seconds or not all(0 <= each < math.inf for each in seconds):
        raise ConfigError(f"{uri}: expected seconds, found {text!r:.80}; delete the file, and the report's time counts")
    return seconds
