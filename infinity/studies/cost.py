"""What a study will cost: seconds of every job that is not done, from finished ones of its kind or a calibration."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from infinity.config import digest_of
from infinity.evaluation.geneval.benchmark import NUM_OFFICIAL_PROMPTS, OFFICIAL_PROMPTS, GenevalBenchmark
from infinity.evaluation.prompts.benchmark import PromptBenchmark
from infinity.jobs.cluster.connection import is_in_process
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.estimate.estimate import calibrate, seconds_at
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.spec import JobSpec, is_done
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.studies.grid import Cell
from infinity.studies.values import processor_seconds_of, seconds_of
from infinity.tokenizer.tokenizer import TokenizerConfig


@dataclass(frozen=True, slots=True)
class Overheads:
    """Processor seconds of a job besides its steps and passes, on one core of a common processor.

    Attributes:
        training: Workers of a training start, read the data set, draw samples and export.
        evaluation: Workers of an evaluation start and load the model.
        dataset: A small data set is drawn and written.
        other: A job of another kind, such as a traced step.
    """

    training: float
    evaluation: float
    dataset: float
    other: float


ON_RAY = Overheads(training=12.0, evaluation=6.0, dataset=10.0, other=10.0)
IN_PROCESS = Overheads(training=0.35, evaluation=0.2, dataset=0.65, other=1.5)
_PACE_S = 0.5
"""Processor seconds over which the pace of this machine is measured."""
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
        pace: Seconds per processor second, above 1 where other programs use the same cores; None measures it.
    """

    flops_per_s: float | None = None
    pace: float | None = None
    _rates: dict[str, float] = field(default_factory=dict)
    _finished: dict[str, list[JobSpec]] = field(default_factory=dict)

    def costs(self, cells: Sequence[Cell]) -> list[JobCost]:
        """Return the cost of every job once, in order; finished ones cost nothing more."""
        found: dict[str, JobCost] = {}
        if self.pace is None:
            self.pace = measured_pace() if self.flops_per_s is None else 1.0
        self._finished = _finished(cells)
        for cell in cells:
            for job in cell.jobs:
                if job.folder not in found:
                    found[job.folder] = self._cost(job, cell)
        return list(found.values())

    def _cost(self, job: JobSpec, cell: Cell) -> JobCost:
        if is_done(job):
            return JobCost(job, 0.0, "done")
        assert self.pace is not None
        if finished := self._finished.get(_key(job, cell)):
            return JobCost(job, self._as_before(finished), "a finished one of its kind")
        return JobCost(job, self.pace * self._processor_s(job, cell), "calibrated")

    def _as_before(self, finished: Sequence[JobSpec]) -> float:
        """Return the mean seconds of finished jobs: their processor seconds at the present pace, where both count."""
        assert self.pace is not None
        processor = [processor_seconds_of(job) for job in finished]
        known = [seconds for seconds in processor if seconds is not None]
        if is_in_process() and self.flops_per_s is None and len(known) == len(finished):
            return self.pace * math.fsum(known) / len(known)
        return math.fsum(map(seconds_of, finished)) / len(finished)

    def _processor_s(self, job: JobSpec, cell: Cell) -> float:
        """Return the seconds of a job on a machine without other programs."""
        overheads = IN_PROCESS if is_in_process() else ON_RAY
        if isinstance(job, TrainTokenizerSpec | TrainTransformerSpec):
            return overheads.training + job.loop.num_steps * self._step_s(job, cell)
        if isinstance(job, EvaluateSpec):
            return overheads.evaluation + self._evaluation_s(job, cell)
        return overheads.dataset if isinstance(job, BuildDatasetSpec) else overheads.other

    def _step_s(self, job: TrainTokenizerSpec | TrainTransformerSpec, cell: Cell) -> float:
        """Return the seconds of a step; workers share its micro-batches."""
        shape = _shape(cell) if isinstance(job, TrainTransformerSpec) else None
        key = _key(job, cell)
        if key not in self._rates:
            self._rates[key] = self._measured_step_s(job, shape)
        alone = job.workers.num_workers if is_in_process() else 1
        return self._rates[key] * alone

    def _measured_step_s(self, job: TrainTokenizerSpec | TrainTransformerSpec, shape: TokenizerConfig | None) -> float:
        """Return the seconds of a step by a device's speed, or the processor seconds of one that is timed here."""
        if self.flops_per_s is None:
            if job.workers.use_gpu:
                raise ValueError(
                    f"the {job.kind}'s training is for GPUs, of which this machine's CPU says nothing: give the speed "
                    "that one reaches in practice, such as --tflops 400"
                )
            timed = calibrate(job.replace(workers=job.workers.replace(use_gpu=False)), tokenizer=shape)
            return timed.processor_seconds / job.workers.threads
        return seconds_at(job, self.flops_per_s)

    def _evaluation_s(self, job: EvaluateSpec, cell: Cell) -> float:
        """Return the seconds of drawing and scoring: passes of the transformer at the speed of its training."""
        training = next(each for each in cell.jobs if isinstance(each, TrainTransformerSpec))
        per_picture = self._step_s(training, cell) * training.workers.num_workers / training.loop.batch_size / 3
        passes = 0
        for benchmark in (job.validation, job.reconstruction):
            passes += (benchmark.num_pictures or 0) if benchmark is not None else 0
        guided = 1 if job.sampling.guidance == 1.0 else 2
        for _, prompts in job.prompt_benchmarks():
            passes += guided * _num_prompts(prompts) * int(getattr(prompts, "pictures_per_prompt", 1))
        return 2.0 * passes * per_picture / job.workers.num_workers


def _num_prompts(prompts: PromptBenchmark) -> int:
    """Return the number of prompts; that of GenEval's own file is known without it."""
    is_official = isinstance(prompts, GenevalBenchmark) and prompts == prompts.replace(
        prompts=OFFICIAL_PROMPTS, prompts_per_task=None
    )
    return NUM_OFFICIAL_PROMPTS if is_official else len(prompts.items())


def measured_pace() -> float:
    """Return how many seconds pass per processor second of this process: 1 on an idle machine."""
    x = torch.ones(64, 64)
    wall, processor = time.perf_counter(), time.process_time()
    while time.process_time() - processor < _PACE_S:
        x = (x @ x).clamp_(0, 1)
    return max(1.0, (time.perf_counter() - wall) / (time.process_time() - processor))


def _finished(cells: Sequence[Cell]) -> dict[str, list[JobSpec]]:
    """Return finished jobs by what their cost depends on."""
    found: dict[str, list[JobSpec]] = {}
    seen: set[str] = set()
    for cell in cells:
        for job in cell.jobs:
            if job.folder not in seen and is_done(job):
                found.setdefault(_key(job, cell), []).append(job)
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
