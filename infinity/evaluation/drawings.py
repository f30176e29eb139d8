"""Pictures drawn for captions of the data set: a sheet to look at."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleBenchmark(Config):
    """One drawing for each of some captions, to look at.

    Args:
        num_pictures: How many captions, spread over the split.
    """

    num_pictures: int = 16

    def __post_init__(self) -> None:
        if self.num_pictures < 1:
            raise ValueError(f"SampleBenchmark.num_pictures: expected at least 1, got {self.num_pictures}")

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[SamplePart, ...]:
        """One part a batch of captions."""
        rows = spread(manifest, target.split, self.num_pictures)
        return tuple(SamplePart(batch=batch) for batch in batches(manifest, rows, target.batch_size))

    def summarize(self, state: tuple[Sample, ...]) -> BenchmarkResult:
        """The sheet "samples" with the captions in the order of the pictures, and where these lie."""
        pictures = [sample.picture for sample in state]
        sheet = SheetImage(
            png=compose_sheet(pictures, 8, enlarge=magnification(pictures[0])),
            title="Drawings for captions the model was not trained on, left to right",
            captions=tuple(sample.caption for sample in state),
        )
        return BenchmarkResult(sheets={"samples": sheet}, drawings=[sample.line() for sample in state if sample.uri])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One drawing for the caption of a picture.

    Attributes:
        id: Of the picture; see ``picture_ids``.
        caption: What was drawn.
        seed: Of the drawing.
        uri: Where it is kept; None where nothing is.
        picture: The drawing.
    """

    id: str
    caption: str
    seed: int
    uri: str | None
    picture: Picture = field(repr=False)

    def line(self) -> Mapping[str, object]:
        """As the drawings of benchmarks are listed."""
        return {
            "benchmark": "samples",
            "id": self.id,
            "prompt": self.caption,
            "seeds": [self.seed],
            "pictures": [self.uri],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePart:
    """A batch of captions."""

    batch: RowBatch

    @property
    def num_pictures(self) -> int:
        """Pictures that are drawn."""
        return len(self.batch.rows)

    def compute(self, context: EvalContext) -> tuple[Sample, ...]:
        """Captions and drawings."""
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
    """One picture for the caption of every row; the seed of a row is the subject's seed plus its number."""
    return drawn.draw(context, _wanted(context, batch))


def _wanted(context: EvalContext, batch: RowBatch) -> list[Drawing]:
    captions = context.manifest.captions(batch.rows)
    seeds = [context.target.seed + row for row in batch.rows]
    return [Drawing(caption, seed, batch.aspect_ratio) for caption, seed in zip(captions, seeds, strict=True)]
