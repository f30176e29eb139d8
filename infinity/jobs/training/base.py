"""Specs, reports and sessions that the two trainings share.

``tokenizer.py`` and ``transformer.py`` build the session of each training; ``driver.py`` starts the workers, and
``worker.py`` runs in each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.augment import AugmentConfig
from infinity.data.loading.mixture import SetConfig, ShareConfig, load_sets
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
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.state import TrainState

MODEL_FOLDER, SAMPLES_FOLDER, STATE_FOLDER, RAY_FOLDER = "model", "samples", "state", "ray"
PREPARATION = 0.05
"""Fraction of the progress bar for loading and encoding."""
_SHEET = re.compile(r"step-(\d{1,18})\.png")


def step_of_sheet(uri: str) -> int | None:
    """Return the step after which a sheet of samples was drawn; None for a file that a person put beside them."""
    found = _SHEET.fullmatch(storage.name(uri))
    return None if found is None else int(found[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport(JobReport):
    """Report of a training.

    Attributes:
        model: URI of the folder with the averaged weights; without averaging the last ones.
        seconds: Duration of the job, or of its last session where it was interrupted.
        notes: Sentences for people about what should not have happened: damaged states, skipped batches, returns to a
            checkpoint.
    """

    model: str
    training: TrainingSummary
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec(JobSpec):
    """Fields that the specs of both trainings share.

    Attributes:
        manifest: URI of the data set's manifest.
        share: Repeats or weight of this data set beside ``sets``, and what is put around its captions.
        sets: Further data sets, with the same settings of each.
        resolution: Grids of every aspect ratio; with the tokenizer's stride they set the size of the pictures.
        optimizer: The optimizer and its learning rate.
        loop: Length, batch size, micro-batches and intervals.
        workers: Number of workers and their devices.
        order: Shuffling of the pictures.
        augment: Augmentation, drawn at each visit of a picture.
        reading: Caches and threads of reading; changes nothing about the model (decision 18).
        seed: Seed of weights, order of pictures and all draws.
        stage: Slug of the stage in reports, such as "tokenizer", "pretrain" or "finetune".
    """

    elsewhere: ClassVar[frozenset[str]] = JobSpec.elsewhere | {"reading"}
    later: ClassVar[frozenset[str]] = frozenset({"share", "sets"})

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
    share: ShareConfig = field(default_factory=ShareConfig)
    sets: tuple[SetConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.workers.num_workers > self.loop.num_parts:
            raise ValueError(
                f"workers.num_workers: {self.workers.num_workers} workers need at least as many micro-batches per "
                f"batch, got loop.num_parts {self.loop.num_parts}; set workers.num_workers to at most "
                f"{self.loop.num_parts}, or raise loop.num_parts, which makes it another training"
            )

    def data(self) -> Manifest:
        """Return the data set, or all data sets of the training as one.

        Raises:
            ManifestError: A file is no manifest.
            ValueError: Weights and repeats are mixed, or a set has no pictures to train on.
            StorageError: A manifest is missing or unreadable.
        """
        return load_sets(self.manifest, self.share, self.sets)


P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Samples:
    """A sheet of sample pictures.

    Attributes:
        png: PNG bytes; empty in workers that draw nothing.
        captions: One caption per column, or none.
    """

    png: bytes
    captions: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session(Generic[P]):
    """A training made ready in one worker.

    Attributes:
        state: State of step 0.
        task: Model with its loss.
        draw: Draws sample pictures of the present state; called in the first worker only, unless joint.
        export: Writes the model folder; called in the first worker only, unless joint.
        joint: Whether weights are sharded, so that all workers must draw and export together.
        ready: Called in every worker once the state to resume from is loaded, with a callback for notes to people.
    """

    state: TrainState
    task: Task[P]
    loader: BatchLoader[P]
    draw: Callable[[], Samples]
    export: Callable[[str], None]
    joint: bool = False
    ready: Callable[[Callable[[str], None]], None] = lambda _: None


OnProgress = Callable[[float, str], None]
"""Progress callback: the fraction done and a sentence."""
Build = Callable[[Any, ProcessGroup, torch.device, OnProgress], "Session[Any]"]
"""Builds a session from the spec, the process group, the device and a progress callback; picklable by name."""


def weightings(ema: Ema | None) -> tuple[tuple[Ema | None, str], ...]:
    """Return the weights that samples are drawn with, and their titles: averaged ones, if any, and the last ones."""
    last: tuple[Ema | None, str] = (None, "the last weights")
    return (last,) if ema is None else ((ema, "averaged weights"), last)
