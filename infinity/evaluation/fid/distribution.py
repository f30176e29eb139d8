"""FID, KID, Inception Score, precision and recall of a model's pictures; FID and KID of its reconstructions too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images
from infinity.evaluation.benchmark import BenchmarkResult, EvalContext, EvalTarget, RowBatch, batches, spread
from infinity.evaluation.drawings import draw
from infinity.evaluation.fid import preparation
from infinity.evaluation.fid.feature_distances import KidConfig, inception_score, kernel_distance, precision_recall
from infinity.evaluation.fid.frechet import GaussianStats, frechet_distance
from infinity.evaluation.fid.fused_inception import load_fused_inception
from infinity.evaluation.fid.inception_weights import InceptionWeights
from infinity.evaluation.fid.preparation import PREPARATIONS, Convention
from infinity.evaluation.fid.reference_statistics import (
    Provenance,
    Statistics,
    StatisticsFile,
    read_statistics,
    statistics_distance,
)
from infinity.evaluation.model import loaded_pipeline
from infinity.evaluation.reconstruction.benchmark import reconstruct
from infinity.evaluation.score import Score
from infinity.ranges import Count, Range

FEATURE_WIDTH = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributionBenchmark(Config):
    """A model's pictures and reconstructions, compared with the same pictures of the data set.

    Args:
        num_pictures: Number of pictures, spread over the split; None takes all. FIDs compare only at equal numbers.
        convention: Preparation of pictures for Inception; part of the protocol.
        kid: Kernel and subsets.
        splits: Number of splits for the Inception Score.
        neighbours: Number of nearest neighbours for precision and recall.
        reference: Statistics of another set, with which the model's pictures are compared too (``fid_reference``), or
            None.
    """

    num_pictures: Annotated[int, Range(2)] | None = None
    convention: Convention = "tf1"
    kid: KidConfig = field(default_factory=KidConfig)
    splits: Count = 10
    neighbours: Count = 3
    reference: StatisticsFile | None = None

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[DistributionPart, ...]:
        """Return one part per batch of rows.

        Raises:
            ValueError: The split has a single picture, or the reference statistics are of another convention.
            StorageError: The reference statistics cannot be read.
        """
        rows = spread(manifest, target.split, self.num_pictures)
        if len(rows) < 2:
            raise ValueError(f"{manifest.uri}: FID needs at least 2 pictures in the split {target.split!r}, found 1")
        self._read_reference()  # before any worker starts
        return tuple(
            DistributionPart(batch=batch, convention=self.convention)
            for batch in batches(manifest, rows, target.batch_size)
        )

    def summarize(self, state: DistributionState) -> BenchmarkResult:
        """Return FID and KID of drawings and reconstructions, and others; ``fid_reference`` where there is a reference.

        Raises:
            ValueError: The three sets of features have different numbers of rows.
        """
        clouds = state.clouds()
        originals = GaussianStats.of(clouds.originals)
        drawings = GaussianStats.of(clouds.drawings)
        reconstructions = GaussianStats.of(clouds.reconstructions)
        biased = ""
        if originals.count <= FEATURE_WIDTH:
            biased = "biased upwards: fewer pictures than features; compares only at this n"
        scores = [
            self._score("rfid", frechet_distance(originals, reconstructions), originals.count, biased),
            self._score("fid", frechet_distance(originals, drawings), originals.count, biased),
            *self._kernel("rkid", clouds.reconstructions, clouds.originals),
            *self._kernel("kid", clouds.drawings, clouds.originals),
            *self._inception_score(clouds.drawing_logits),
            *self._shares(clouds.drawings, clouds.originals),
        ]
        reference = self._read_reference()
        if reference is not None:
            scores.append(self._against(reference, drawings))
        return BenchmarkResult(scores=tuple(scores))

    def protocol(self, metric: str) -> str:
        """Return how a metric is measured, in words."""
        return f"{metric}/2: {_what(self, metric)}; {preparation.protocol(self.convention)}"

    def _score(self, metric: str, value: float, n: int, note: str = "") -> Score:
        return Score(metric=metric, value=value, unit="", n=n, protocol=self.protocol(metric), note=note)

    def _absent(self, metric: str, reason: str) -> Score:
        return Score.not_measured(metric, "", protocol=self.protocol(metric), reason=reason)

    def _kernel(self, metric: str, cloud: Tensor, originals: Tensor) -> Iterator[Score]:
        if len(cloud) < self.kid.subset_size:
            yield self._absent(metric, f"{len(cloud)} pictures are fewer than a subset of {self.kid.subset_size}")
            return
        found = kernel_distance(cloud, originals, self.kid)
        yield self._score(metric, found.mean, len(cloud), f"deviation over subsets {found.deviation:.3g}")

    def _inception_score(self, logits: Tensor) -> Iterator[Score]:
        if len(logits) < self.splits:
            yield self._absent("inception_score", f"{len(logits)} pictures are fewer than {self.splits} splits")
            return
        found = inception_score(logits, splits=self.splits)
        yield self._score("inception_score", found.mean, len(logits), f"deviation over splits {found.deviation:.3g}")

    def _shares(self, cloud: Tensor, originals: Tensor) -> Iterator[Score]:
        if len(cloud) <= self.neighbours:
            reason = f"{len(cloud)} pictures are too few for {self.neighbours} neighbours"
            yield from (self._absent(name, reason) for name in ("precision", "recall"))
            return
        found = precision_recall(cloud, originals, neighbours=self.neighbours)
        yield self._score("precision", found.precision, len(cloud))
        yield self._score("recall", found.recall, len(cloud))

    def _read_reference(self) -> Statistics | None:
        if self.reference is None:
            return None
        found = read_statistics(self.reference)
        if found.provenance.protocol != preparation.protocol(self.convention):
            raise ValueError(
                f"DistributionBenchmark.reference: {self.reference.file.uri} was taken under "
                f"{found.provenance.protocol!r}, the figures are under {preparation.protocol(self.convention)!r}; "
                "conventions never mix"
            )
        return found

    def _against(self, reference: Statistics, drawings: GaussianStats) -> Score:
        ours = Statistics(
            moments=drawings.moments(), provenance=Provenance(convention=self.convention, feature=drawings.width)
        )
        there = reference.moments.count
        note = f"reference: {there or 'an unknown number of'} pictures"
        if there != drawings.count:
            note += f", not the {drawings.count} here: does not stand beside FIDs of another number"
        return self._score("fid_reference", statistics_distance(reference, ours), drawings.count, note)


_WHATS: dict[str, Callable[[DistributionBenchmark], str]] = {
    "rfid": lambda _: "reconstructions against the same pictures, fitted to the model's size, rounded to 8 bits",
    "fid": lambda _: "one drawing a caption against the same pictures, fitted to the model's size, rounded to 8 bits",
    "rkid": lambda benchmark: f"as rfid, {benchmark.kid.protocol}",
    "kid": lambda benchmark: f"as fid, {benchmark.kid.protocol}",
    "inception_score": lambda benchmark: (
        f"one drawing a caption, scores without bias, shuffled with seed 2020, {benchmark.splits} splits"
    ),
    "precision": lambda benchmark: f"share of drawings in balls of {benchmark.neighbours} neighbours of the pictures",
    "recall": lambda benchmark: f"share of pictures in balls of {benchmark.neighbours} neighbours of the drawings",
}


def _what(benchmark: DistributionBenchmark, metric: str) -> str:
    if metric == "fid_reference":
        assert benchmark.reference is not None
        return f"one drawing a caption against the statistics {benchmark.reference.file.uri}"
    return _WHATS[metric](benchmark)


Features = Float32[np.ndarray, "n D"]


@dataclass(frozen=True, slots=True, eq=False)
class Clouds:
    """Features of all pictures, one row per picture, in the order of the parts."""

    originals: Tensor
    reconstructions: Tensor
    drawings: Tensor
    drawing_logits: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DistributionState:
    """Features of the pictures, of their reconstructions and of the model's pictures; one array per part.

    Rows are sent, not sums, because nearest neighbours and kernels need rows. A picture takes 28 kB; the sums of one
    part would take more. Large arrays lie in the cluster's shared memory.
    """

    originals: tuple[Features, ...]
    reconstructions: tuple[Features, ...]
    drawings: tuple[Features, ...]
    drawing_logits: tuple[Features, ...]

    def __add__(self, other: DistributionState) -> DistributionState:
        return DistributionState(
            originals=self.originals + other.originals,
            reconstructions=self.reconstructions + other.reconstructions,
            drawings=self.drawings + other.drawings,
            drawing_logits=self.drawing_logits + other.drawing_logits,
        )

    def clouds(self) -> Clouds:
        """Return all rows.

        Raises:
            ValueError: The sets have different numbers of rows; such sets never compare.
        """
        found = Clouds(*map(_joined, (self.originals, self.reconstructions, self.drawings, self.drawing_logits)))
        counts = (len(found.originals), len(found.reconstructions), len(found.drawings), len(found.drawing_logits))
        if len(set(counts)) != 1:
            raise ValueError(f"distribution: expected equal numbers of pictures in all clouds, got {counts}")
        return found


def _joined(parts: tuple[Features, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributionPart:
    """Work on a batch of rows of the data set."""

    batch: RowBatch
    convention: Convention = "tf1"

    @property
    def num_pictures(self) -> int:
        """Number of pictures that go through the feature network."""
        return 3 * len(self.batch.rows)

    def compute(self, context: EvalContext) -> DistributionState:
        """Draw, reconstruct, and compute features."""
        pipeline = loaded_pipeline(context)
        tokenizer = pipeline.tokenizer
        schedule = pipeline.config.resolution.schedule(self.batch.aspect_ratio)
        originals = load_images(context.manifest, self.batch.rows, schedule.image_size_px(tokenizer.config.stride_px))
        drawings, logits = self._features(context, draw(context, self.batch))
        return DistributionState(
            originals=(self._features(context, originals)[0],),
            reconstructions=(self._features(context, reconstruct(tokenizer, originals, schedule))[0],),
            drawings=(drawings,),
            drawing_logits=(logits,),
        )

    @torch.inference_mode()
    def _features(self, context: EvalContext, images: UInt8[np.ndarray, "B H W 3"]) -> tuple[Features, Features]:
        """Return the 2048 Inception features and the class scores without bias of every picture."""
        prepared = PREPARATIONS[self.convention](torch.from_numpy(images).to(context.target.device))
        weights = context.target.inception
        assert isinstance(weights, InceptionWeights)
        found = context.networks.get(weights, load_fused_inception)(prepared)
        rows = (found.features_2048, found.logits_without_bias)
        features, logits = (np.asarray(row.float().cpu().numpy()) for row in rows)
        return features, logits
