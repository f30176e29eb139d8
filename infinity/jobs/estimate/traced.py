"""Job: count memory, weights and operations of a training's step by tracing it, without running the training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from infinity.jobs.estimate.estimate import Assumptions, estimate
from infinity.jobs.ownership import Tenure, once
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.tokenizer.tokenizer import TokenizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedSpec(JobSpec):
    """Spec of a traced step.

    Attributes:
        tokenizer: Training of a tokenizer; None where ``transformer`` is traced.
        transformer: Training of a transformer; None where ``tokenizer`` is traced.
        shape: Shape of the transformer's frozen tokenizer.
    """

    kind: ClassVar[str] = "traced"

    tokenizer: TrainTokenizerSpec | None = None
    transformer: TrainTransformerSpec | None = None
    shape: TokenizerConfig | None = None

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.transformer is None):
            raise ValueError("TracedSpec: expected either a tokenizer's training or a transformer's")
        if self.transformer is not None and self.shape is None:
            raise ValueError("TracedSpec.shape: a transformer's training needs the shape of its tokenizer, got none")


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedReport(JobReport):
    """Result of tracing.

    Attributes:
        values: Bytes and operations by name: "traced.peak_bytes" (a whole step), "traced.activation_bytes",
            "traced.weight_bytes", "traced.flops" (per step).
        seconds: Duration of the job.
    """

    values: dict[str, float]
    seconds: float


def run(spec: TracedSpec, *, progress: ProgressSink = silent) -> TracedReport:
    """Trace one step on tensors without memory. A finished job is not run again."""
    return once(spec, TracedReport, lambda tenure: _run(spec, tenure), progress)


def _run(spec: TracedSpec, tenure: Tenure) -> TracedReport:
    started = time.monotonic()
    begin(spec)
    training = spec.tokenizer or spec.transformer
    assert training is not None
    found = estimate(training, Assumptions(), tokenizer=spec.shape)
    values = {
        "traced.peak_bytes": float(found.device_bytes),
        "traced.activation_bytes": float(found.activations),
        "traced.weight_bytes": float(found.weights),
        "traced.flops": float(found.flops_per_step),
    }
    return commit(spec, TracedReport(values=values, seconds=round(time.monotonic() - started, 2)))
