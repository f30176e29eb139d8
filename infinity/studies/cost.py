"""What a study will cost: seconds of every job that is not done, from finished ones of its kind or a calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infinity.config import digest_of
from infinity.jobs.cluster.connection import is_in_process
from infinity.jobs.estimate.estimate import Assumptions, calibrate, estimate
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.spec import JobSpec, is_done
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.studies.grid import Cell
from infinity.studies.values import seconds_of
from infinity.tokenizer.tokenizer import TokenizerConfig

START_S = 12.0
"""Seconds in which a training's workers start, read the data set, draw samples and export."""
EVALUATION_START_S = 6.0
"""Seconds in which the workers of an evaluation start and load the model."""
OTHER_S = 10.0
"""Seconds of a job of another kind: a small data set, a traced step."""
_PLACES = {"output", "seed", "manifest", "tokenizer", "model", "start_from", "encoded", "store", "inputs", "workers"}
"""Fields that say where things lie; a model that is a shape is not left out."""


@dataclass(frozen=True, slots=True)
class JobCost:
    """Seconds of one job, and where the figure comes from: "done", "a finished one of its kind", or "calibrated"."""

    job: JobSpec
    seconds: float
    source: str


@dataclass(slots=True)
class CostModel:
    """Estimates of the jobs of a study.

    Attributes:
        flops_per_s: FLOP/s that a device reaches in practice; None times a few steps on this machine's CPU.
    """

    flops_per_s: float | None = None
    _rates: dict[str, float] = field(default_factory=dict)
    _finished: dict[str, list[float]] = field(default_factory=dict)

    def costs(self, cells: Sequence[Cell]) -> list[JobCost]:
        """Return the cost of every job once, in order; finished ones cost nothing more."""
        found: dict[str, JobCost] = {}
        self._finished = _finished(cells)
        for cell in cells:
            for job in cell.jobs:
                if job.folder not in found:
                    found[job.folder] = self._cost(job, cell)
        return list(found.values())

    def _cost(self, job: JobSpec, cell: Cell) -> JobCost:
        if is_done(job):
            return JobCost(job, 0.0, "done")
        if taken := self._finished.get(_key(job, cell)):
            return JobCost(job, math.fsum(taken) / len(taken), "a finished one of its kind")
        if isinstance(job, TrainTokenizerSpec | TrainTransformerSpec):
            start = 1.0 if is_in_process() else START_S
            return JobCost(job, start + job.loop.num_steps * self._step_s(job, cell), "calibrated")
        if isinstance(job, EvaluateSpec):
            return JobCost(job, EVALUATION_START_S + self._evaluation_s(job, cell), "calibrated")
        return JobCost(job, OTHER_S, "calibrated")

    def _step_s(self, job: TrainTokenizerSpec | TrainTransformerSpec, cell: Cell) -> float:
        """Return the seconds of a step; workers share its micro-batches."""
        shape = _shape(cell) if isinstance(job, TrainTransformerSpec) else None
        key = _key(job, cell)
        if key not in self._rates:
            assumed = Assumptions(flops_per_s=self.flops_per_s)
            timed = None
            if self.flops_per_s is None:
                timed = calibrate(job.replace(workers=job.workers.replace(use_gpu=False)), tokenizer=shape)
            found = estimate(job, assumed, tokenizer=shape, calibration=timed)
            assert found.seconds_per_step is not None
            self._rates[key] = found.seconds_per_step
        alone = job.workers.num_workers if is_in_process() else 1
        return self._rates[key] * alone

    def _evaluation_s(self, job: EvaluateSpec, cell: Cell) -> float:
        """Return the seconds of drawing and scoring: passes of the transformer at the speed of its training."""
        training = next(each for each in cell.jobs if isinstance(each, TrainTransformerSpec))
        per_picture = self._step_s(training, cell) * training.workers.num_workers / training.loop.batch_size / 3
        passes = 0
        for benchmark in (job.validation, job.reconstruction):
            passes += (benchmark.num_pictures or 0) if benchmark is not None else 0
        guided = 1 if job.sampling.guidance == 1.0 else 2
        for _, prompts in job.prompt_benchmarks():
            passes += guided * len(prompts.items()) * int(getattr(prompts, "pictures_per_prompt", 1))
        return 2.0 * passes * per_picture / job.workers.num_workers


def _finished(cells: Sequence[Cell]) -> dict[str, list[float]]:
    """Return the seconds of finished jobs by what their cost depends on."""
    found: dict[str, list[float]] = {}
    seen: set[str] = set()
    for cell in cells:
        for job in cell.jobs:
            if job.folder not in seen and is_done(job):
                found.setdefault(_key(job, cell), []).append(seconds_of(job))
            seen.add(job.folder)
    return found


def _shape(cell: Cell) -> TokenizerConfig:
    return next(job.model for job in cell.jobs if isinstance(job, TrainTokenizerSpec))


def _key(job: JobSpec, cell: Cell) -> str:
    """Return a digest of everything that the cost of a job depends on."""
    fields: dict[str, Any] = {
        name: value for name, value in job.identity().items() if name not in _PLACES or isinstance(value, dict)
    }
    if isinstance(job, EvaluateSpec):
        fields["sampling"] = job.sampling.guidance == 1.0
    trainings = [each for each in cell.jobs if isinstance(each, TrainTokenizerSpec | TrainTransformerSpec)]
    shapes = [each.model.identity() for each in trainings]
    return digest_of({"kind": job.kind, "fields": fields, "shapes": shapes if job.kind == "evaluation" else []})
