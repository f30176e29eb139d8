"""Pictures drawn for captions of the data set, as a sheet to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import compose_sheet
from infinity.evaluation import drawn
from infinity.evaluation.benchmark import (
    BenchmarkResult,
    EvalContext,
    EvalTarget,
    Picture,
    RowBatch,
    SheetImage,
    batches,
    magnification,
    picture_ids,
    spread,
)
from infinity.evaluation.model import picture_store
from infinity.evaluation.pictures.store import Drawing
from infinity.ranges import Count


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleBenchmark(Config):
    """One picture for each of some captions, to look at.

    Args:
        num_pictures: Number of captions, spread over the split.
    """

    num_pictures: Count = 16

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[SamplePart, ...]:
        """Return one part per batch of captions."""
        rows = spread(manifest, target.split, self.num_pictures)
        return tuple(SamplePart(batch=batch) for batch in batches(manifest, rows, target.batch_size))

    def summarize(self, state: tuple[Sample, ...]) -> BenchmarkResult:
        """Return the sheet "samples" with the captions in the order of the pictures, and where the pictures lie."""
        pictures = [sample.picture for sample in state]
        sheet = SheetImage(
            png=compose_sheet(pictures, 8, enlarge=magnification(pictures[0])),
            title="Drawings for captions the model was not trained on, left to right",
            captions=tuple(sample.caption for sample in state),
        )
        return BenchmarkResult(sheets={"samples": sheet}, drawings=[sample.line() for sample in state if sample.uri])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One picture drawn for the caption of a picture of the data set.

    Attributes:
        id: Id of the data set's picture; see ``picture_ids``.
        uri: URI of the picture; None where it is not kept.
        picture: The picture itself.
    """

    id: str
    caption: str
    seed: int
    uri: str | None
    picture: Picture = field(repr=False)

    def line(self) -> Mapping[str, object]:
        """Return the line of a report's drawings, in the format of benchmarks over prompts."""
        return {
            "benchmark": "samples",
            "id": self.id,
            "prompt": self.caption,
            "seeds": [self.seed],
            "pictures": [self.uri],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePart:
    """Work on a batch of captions."""

    batch: RowBatch

    @property
    def num_pictures(self) -> int:
        """Number of pictures that are drawn."""
        return len(self.batch.rows)

    def compute(self, context: EvalContext) -> tuple[Sample, ...]:
        """Draw one picture per caption."""
        ids, store = picture_ids(context.manifest, self.batch.rows), picture_store(context.target)
        wanted = _wanted(context, self.batch)
        return tuple(
            Sample(
                id=name,
                caption=drawing.prompt,
                seed=drawing.seed,
                uri=None if store is None else store.uri(drawing),
                picture=picture,
            )
            for name, drawing, picture in zip(ids, wanted, drawn.draw(context, wanted), strict=True)
        )


def draw(context: EvalContext, batch: RowBatch) -> UInt8[np.ndarray, "B H W 3"]:
    """Return one picture for the caption of every row; a row's seed is the target's seed plus the row's number."""
    return drawn.draw(context, _wanted(context, batch))


def _wanted(context: EvalContext, batch: RowBatch) -> list[Drawing]:
    captions = context.manifest.captions(batch.rows)
    seeds = [context.target.seed + row for row in batch.rows]
    return [Drawing(caption, seed, batch.aspect_ratio) for caption, seed in zip(captions, seeds, strict=True)]
