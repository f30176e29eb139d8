"""What the two trainings have in common: their specs and reports, and a training made ready in a worker.

What is trained comes from the jobs ``train_tokenizer`` and ``train_transformer``; ``training_driver`` starts the
workers, and ``training_worker`` is what each of them does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch

from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.shuffle import OrderConfig
from infinity.data.loading.stored import ReadingConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.spec import JobReport, JobSpec
from infinity.reporting.summary import TrainingSummary
from infinity.scales import Resolution
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.ema import Ema
from infinity.training.learner import (
    BatchLoader,
    LoopConfig,
    MicroBatch,
    Task,
)
from infinity.training.optimizer import OptimizerConfig
from infinity.training.state import TrainState

MODEL_FOLDER, SAMPLES_FOLDER, STATE_FOLDER, RAY_FOLDER = "model", "samples", "state", "ray"
PREPARATION = 0.05
"""Share of the progress that loading and encoding get."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport(JobReport):
    """What a training made.

    Attributes:
        model: URI of the folder with the averaged weights (or the last, without averaging).
        training: For the report page.
        seconds: From start to end of the job, or of its last part where it was interrupted.
        notes: What should not have happened, for people: damaged states that were passed over, batches that were
            skipped, returns to a checkpoint.
    """

    model: str
    training: TrainingSummary
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec(JobSpec):
    """What the specs of both trainings have.

    Attributes:
        manifest: URI of the data set's manifest.
        resolution: Grids of every aspect ratio; with the tokenizer's stride they set the size of the pictures.
        optimizer: AdamW and its learning rate.
        loop: How long and how often.
        workers: Who trains.
        order: How pictures are mixed.
        augment: What is drawn for a picture at each visit.
        reading: How pictures reach the workers; changes nothing about the model.
        seed: Of weights, order of pictures and all draws.
        stage: Slug of the stage in reports, such as "tokenizer", "pretrain" or "finetune".
    """

    elsewhere: ClassVar[frozenset[str]] = JobSpec.elsewhere | {"reading"}

    manifest: str
    resolution: Resolution
    optimizer: OptimizerConfig
    loop: LoopConfig
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    order: OrderConfig = field(default_factory=OrderConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    seed: int = 0
    stage: str = "train"

    def __post_init__(self) -> None:
        JobSpec.__post_init__(self)  # super() does not work in a dataclass with slots
        if self.workers.num_workers > self.loop.num_parts:
            raise ValueError(
                f"workers.num_workers: {self.workers.num_workers} workers need batches of at least as many parts, got "
                f"loop.num_parts {self.loop.num_parts}; take at most that many workers, or deal batches of "
                f"{self.loop.batch_size} samples into more parts, which is another training"
            )


P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Samples:
    """A sheet of pictures as PNG bytes, what its rows show, and a caption a column where it needs one."""

    png: bytes
    captions: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session(Generic[P]):
    """A training made ready in one worker.

    Attributes:
        state: At step 0.
        learner: What is trained, with its loss.
        feed: The worker's batches.
        draw: Sample pictures of the present state; called in the first worker only, unless joint.
        export: Write the model folder; called in the first worker only, unless joint.
        joint: Whether no worker holds all weights, so that drawing and exporting take them all.
        ready: Called in every worker when the state is the one that the run goes on from, with a listener to what
            people should know of it.
    """

    state: TrainState
    learner: Task[P]
    feed: BatchLoader[P]
    draw: Callable[[], Samples]
    export: Callable[[str], None]
    joint: bool = False
    ready: Callable[[Callable[[str], None]], None] = lambda _: None


Told = Callable[[float, str], None]
Build = Callable[[Any, ProcessGroup, torch.device, Told], "Session[Any]"]
"""Makes a session from the spec, the team, the device, and a listener to the preparation; a function of a module."""


def weightings(ema: Ema | None) -> tuple[tuple[Ema | None, str], ...]:
    """With which weights sample pictures are drawn, and their names: the averaged ones, if any, and the last ones."""
    last: tuple[Ema | None, str] = (None, "the last weights")
    return (last,) if ema is None else ((ema, "averaged weights"), last)
