"""Pictures drawn for captions of the data set: a sheet to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from infinity.config import Config
from infinity.data.manifest import Manifest
from infinity.data.pictures import compose_sheet
from infinity.evaluation import drawn
from infinity.evaluation.measure import (
    Material,
    Outcome,
    Picture,
    Rows,
    SheetImage,
    Subject,
    batches,
    magnification,
    spread,
)
from infinity.evaluation.picture_store import Drawing

FEATURE_WIDTH = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleMeasure(Config):
    """One drawing for each of some captions, to look at.

    Args:
        num_pictures: How many captions, spread over the split.
    """

    num_pictures: int = 16

    def __post_init__(self) -> None:
        if self.num_pictures < 1:
            raise ValueError(f"SampleMeasure.num_pictures: expected at least 1, got {self.num_pictures}")

    def parts(self, subject: Subject, manifest: Manifest) -> tuple[SamplePart, ...]:
        """One part a batch of captions."""
        rows = spread(manifest, subject.split, self.num_pictures)
        return tuple(SamplePart(batch=batch) for batch in batches(manifest, rows, subject.batch_size))

    def outcome(self, state: tuple[tuple[str, Picture], ...]) -> Outcome:
        """The sheet "samples" with the captions in the order of the pictures."""
        pictures = [picture for _, picture in state]
        sheet = SheetImage(
            png=compose_sheet(pictures, 8, enlarge=magnification(pictures[0])),
            title="Drawings for captions the model was not trained on, left to right",
            captions=tuple(caption for caption, _ in state),
        )
        return Outcome(sheets={"samples": sheet})


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePart:
    """A batch of captions."""

    batch: Rows

    @property
    def num_pictures(self) -> int:
        """Pictures that are drawn."""
        return len(self.batch.rows)

    def compute(self, material: Material) -> tuple[tuple[str, Picture], ...]:
        """Captions and drawings."""
        return tuple(zip(material.manifest.captions(self.batch.rows), draw(material, self.batch), strict=True))


def draw(material: Material, batch: Rows) -> UInt8[np.ndarray, "B H W 3"]:
    """One picture for the caption of every row; the seed of a row is the subject's seed plus its number."""
    captions = material.manifest.captions(batch.rows)
    seeds = [material.subject.seed + row for row in batch.rows]
    wanted = [Drawing(caption, seed, batch.aspect_ratio) for caption, seed in zip(captions, seeds, strict=True)]
    return drawn.draw(material, wanted)
