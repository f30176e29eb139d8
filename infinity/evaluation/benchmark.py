"""What a measure is: work in parts that any worker may do, states that add up, figures and pictures at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from infinity import storage
from infinity.data.dataset.manifest import Manifest, Split
from infinity.evaluation.fid.fused_inception import FusedInception
from infinity.evaluation.fid.inception_weights import InceptionWeights, load_inception
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import PICTURES_FOLDER, PictureStore
from infinity.evaluation.score import Score
from infinity.generation.pipeline import Pipeline
from infinity.generation.sampling import SamplingConfig

Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalTarget:
    """What is measured, by name: the same for all workers.

    Attributes:
        model: URI of a model folder.
        manifest: URI of a data set's manifest; None where nothing is measured on a data set.
        split: Which part of the data set is measured on.
        sampling: How pictures are drawn.
        seed: Number from which the seed of every drawing follows.
        batch_size: Pictures in one part of the work. Part of the protocol, since parts are summed in their order.
        inception: Weights for FID, or None.
        device: Where the models run.
        store: URI of the folder where drawings are kept, shared by evaluations; None keeps none.
        model_digest: Of the model's checkpoint, under which its drawings are kept.
    """

    model: str
    manifest: str | None
    split: Split
    sampling: SamplingConfig
    seed: int
    batch_size: int
    inception: InceptionWeights | None
    device: str
    store: str | None = None
    model_digest: str = ""

    @property
    def pictures(self) -> PictureStore | None:
        """Where this model's drawings lie."""
        if self.store is None:
            return None
        folder = storage.join(self.store, PICTURES_FOLDER)
        return PictureStore(folder, self.model_digest, self.sampling, self.device)


class EvalContext:
    """What a worker holds: everything that a subject names, read when first asked for.

    Args:
        subject: What is measured.
        networks: Those that the worker has loaded already, for other subjects too.
    """

    def __init__(self, subject: EvalTarget, networks: Networks | None = None) -> None:
        self.subject = subject
        self.networks = networks or Networks(subject.device)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The model."""
        return Pipeline.load(self.subject.model, device=self.subject.device)

    @cached_property
    def manifest(self) -> Manifest:
        """The data set; only where the subject names one."""
        assert self.subject.manifest is not None
        return Manifest.load(self.subject.manifest)

    @cached_property
    def inception(self) -> FusedInception:
        """The feature network; only where the subject names its weights."""
        assert self.subject.inception is not None
        return FusedInception(load_inception(self.subject.inception)).to(self.subject.device)


State_co = TypeVar("State_co", covariant=True)
State = TypeVar("State")


class WorkItem(Protocol[State_co]):
    """Some of a measure's work: picklable, and the same result on every worker."""

    @property
    def num_pictures(self) -> int:
        """How much work it is, for progress."""
        ...

    def compute(self, material: EvalContext) -> State_co:
        """Do it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetImage:
    """Pictures side by side: PNG bytes with words for people; ``captions`` has one entry a row of pictures, or none."""

    png: bytes = field(repr=False)
    title: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkResult:
    """What a measure found.

    Attributes:
        scores: Figures.
        sheets: Pictures by name.
        records: By file name lines of JSON for a closer look.
        items: By metric the value of every item (a prompt's or a picture's id), whose plain mean is the metric's score:
            what two models are compared by, item by item.
        drawings: Lines that say where drawings lie, as a report's ``drawings`` has them; of benchmarks over prompts the
            job knows them.
    """

    scores: tuple[Score, ...] = ()
    sheets: Mapping[str, SheetImage] = field(default_factory=dict)
    records: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    drawings: Sequence[Mapping[str, object]] = ()


class Benchmark(Protocol[State]):
    """One kind of figure.

    ``parts`` depends on the subject alone, never on the number of workers; ``outcome`` gets the sum of the parts'
    states in their order. So one worker or a hundred give the same figures.
    """

    def parts(self, subject: EvalTarget, manifest: Manifest) -> tuple[WorkItem[State], ...]:
        """The work."""
        ...

    def outcome(self, state: State) -> BenchmarkResult:
        """Figures out of the summed state."""
        ...


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Pictures of the manifest that share an aspect ratio (height / width)."""

    aspect_ratio: float
    rows: tuple[int, ...]


def spread(manifest: Manifest, split: Split, num_pictures: int | None) -> tuple[int, ...]:
    """Rows of a split: all, or so many of them spread evenly over it.

    Raises:
        ValueError: The split is empty.
    """
    rows = manifest.rows(split)
    if not len(rows):
        other: Split = "train" if split == "validation" else "validation"
        raise ValueError(
            f"{manifest.uri}: expected pictures in the split {split!r}, found none. Build the data set with a larger "
            f"validation share, or ask for the split {other!r} ({len(manifest.rows(other))} pictures) on purpose"
        )
    if num_pictures is None or num_pictures >= len(rows):
        return tuple(int(row) for row in rows)
    places = np.arange(num_pictures) * len(rows) // num_pictures
    return tuple(int(row) for row in rows[places])


def batches(manifest: Manifest, rows: Sequence[int], batch_size: int) -> tuple[RowBatch, ...]:
    """The rows in batches of one aspect ratio; rows keep their order within a ratio."""
    ratios = manifest.aspect_ratios
    by_ratio: dict[float, list[int]] = {}
    for row in rows:
        by_ratio.setdefault(float(ratios[row]), []).append(row)
    return tuple(
        RowBatch(ratio, tuple(chosen[start : start + batch_size]))
        for ratio, chosen in sorted(by_ratio.items())
        for start in range(0, len(chosen), batch_size)
    )


def picture_ids(manifest: Manifest, rows: Sequence[int]) -> tuple[str, ...]:
    """Names of pictures that hold across data sets: 16 digits of the file's sha256; its second copy ends in "-2"."""
    wanted = {int(row): "" for row in rows}
    seen: Counter[str] = Counter()
    for row, digest in enumerate(manifest.column("sha256")[: max(wanted, default=-1) + 1].to_pylist()):
        seen[digest] += 1
        if row in wanted:
            wanted[row] = digest[:16] + (f"-{seen[digest]}" if seen[digest] > 1 else "")
    return tuple(wanted[int(row)] for row in rows)


def magnification(picture: Picture) -> int:
    """Whole factor that brings a small picture to about 96 pixels a side on a sheet."""
    return max(1, 96 // int(max(picture.shape[:2])))
