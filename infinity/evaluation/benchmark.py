"""What a benchmark is: work that any worker can do, states that add up, and scores with pictures at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar, cast

import numpy as np
from jaxtyping import UInt8

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest, Split
from infinity.evaluation.networks import Networks
from infinity.evaluation.score import Score
from infinity.generation.sampling import SamplingConfig
from infinity.transformer.cache import CacheForm
from infinity.transformer.number_formats.quantized import WeightForm

Picture = UInt8[np.ndarray, "H W 3"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalTarget:
    """What is evaluated, by name; it is the same for all workers.

    Attributes:
        model: URI of a model folder.
        manifest: URI of a data set's manifest; None where no benchmark needs a data set.
        split: The part of the data set that benchmarks read.
        sampling: How pictures are drawn.
        seed: Number from which the seed of every drawing follows.
        batch_size: Pictures per work item. Part of the protocol, since items are summed in their order.
        inception: Weights of the feature network for FID, or None.
        device: Where the networks run, such as "cpu" or "cuda".
        quantize: Form of the transformer's stored weights; None for floating point.
        cache: Form of cached keys and values; None for floating point.
        store: URI of the folder where pictures are kept, shared by evaluations; None keeps none.
        model_digest: Digest of the model's checkpoint, under which its pictures are kept.
    """

    model: str
    manifest: str | None
    split: Split
    sampling: SamplingConfig
    seed: int
    batch_size: int
    inception: Config | None
    device: str
    quantize: WeightForm | None = None
    cache: CacheForm | None = None
    store: str | None = None
    model_digest: str = ""


class EvalContext:
    """What a worker holds: everything that a target names, read when it is first needed.

    Args:
        networks: Networks that the worker has loaded already, for other targets too.
    """

    def __init__(self, target: EvalTarget, networks: Networks | None = None) -> None:
        self.target = target
        self.networks = networks or Networks(target.device)
        self._loaded: dict[Callable[[EvalTarget], object], object] = {}

    def once(self, load: Callable[[EvalTarget], T]) -> T:
        """Return ``load(target)``, which is called the first time only."""
        if load not in self._loaded:
            self._loaded[load] = load(self.target)
        return cast(T, self._loaded[load])

    @cached_property
    def manifest(self) -> Manifest:
        """The data set; only where the target names one."""
        assert self.target.manifest is not None
        return Manifest.load(self.target.manifest)


State_co = TypeVar("State_co", covariant=True)
State = TypeVar("State")


class WorkItem(Protocol[State_co]):
    """A part of a benchmark's work: picklable, and with the same result on every worker."""

    @property
    def num_pictures(self) -> int:
        """Size of the work in pictures, for progress."""
        ...

    def compute(self, context: EvalContext) -> State_co:
        """Do the work and return its state."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetImage:
    """Pictures side by side as PNG bytes, with a title; ``captions`` has one entry per row of pictures, or is empty."""

    png: bytes = field(repr=False)
    title: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkResult:
    """What a benchmark found.

    Attributes:
        scores: One score per metric.
        sheets: Sheets of pictures by name.
        records: Lines of JSON by file name, for a closer look.
        items: Values by metric and item (the id of a prompt or picture). Their plain mean is the metric's score; two
            models are compared item by item.
        drawings: Lines that say where pictures lie, in the format of a report's ``drawings``. Empty for benchmarks over
            prompts, whose pictures the job lists itself.
    """

    scores: tuple[Score, ...] = ()
    sheets: Mapping[str, SheetImage] = field(default_factory=dict)
    records: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    drawings: Sequence[Mapping[str, object]] = ()


class Benchmark(Protocol[State]):
    """A benchmark over a data set.

    ``parts`` depends on the target alone, never on the number of workers. ``summarize`` gets the sum of the parts'
    states in their order. So one worker and a hundred workers give the same scores (decision 4).
    """

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[WorkItem[State], ...]:
        """Return the parts of the work."""
        ...

    def summarize(self, state: State) -> BenchmarkResult:
        """Return the scores of the summed state."""
        ...


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows of the manifest whose pictures share an aspect ratio (height / width)."""

    aspect_ratio: float
    rows: tuple[int, ...]


def spread(manifest: Manifest, split: Split, num_pictures: int | None) -> tuple[int, ...]:
    """Return rows of a split: all, or ``num_pictures`` of them, spread evenly over it.

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
    """Return the rows in batches of one aspect ratio; rows keep their order within a ratio."""
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
    """Return picture ids that hold across data sets: 16 digits of the file's sha256; a second copy ends in "-2"."""
    wanted = {int(row): "" for row in rows}
    seen: Counter[str] = Counter()
    for row, digest in enumerate(manifest.column("sha256")[: max(wanted, default=-1) + 1].to_pylist()):
        seen[digest] += 1
        if row in wanted:
            wanted[row] = digest[:16] + (f"-{seen[digest]}" if seen[digest] > 1 else "")
    return tuple(wanted[int(row)] for row in rows)


def magnification(picture: Picture) -> int:
    """Return the whole factor that brings a small picture to about 96 pixels per side on a sheet."""
    return max(1, 96 // int(max(picture.shape[:2])))
