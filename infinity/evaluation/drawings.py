"""Pictures drawn for captions of the data set: a sheet to look at; FID and rFID where Inception weights are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from infinity.config import Config
from infinity.data.batches import load_images
from infinity.data.manifest import Manifest
from infinity.data.pictures import compose_sheet
from infinity.evaluation import drawn
from infinity.evaluation.frechet import GaussianStats, frechet_distance
from infinity.evaluation.inception import PROTOCOL, prepare
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
from infinity.evaluation.reconstruction import reconstruct
from infinity.evaluation.score import Score

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


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributionMeasure(Config):
    """FID of drawings and rFID of reconstructions, both against the same pictures.

    Args:
        num_pictures: How many, spread over the split; None takes all. FID compares only at equal numbers.
    """

    num_pictures: int | None = None

    def __post_init__(self) -> None:
        if self.num_pictures is not None and self.num_pictures < 2:
            raise ValueError(f"DistributionMeasure.num_pictures: expected at least 2, got {self.num_pictures}")

    def parts(self, subject: Subject, manifest: Manifest) -> tuple[DistributionPart, ...]:
        """One part a batch of rows.

        Raises:
            ValueError: The split has a single picture.
        """
        rows = spread(manifest, subject.split, self.num_pictures)
        if len(rows) < 2:
            raise ValueError(f"{manifest.uri}: FID needs at least 2 pictures in the split {subject.split!r}, found 1")
        return tuple(DistributionPart(batch=batch) for batch in batches(manifest, rows, subject.batch_size))

    def outcome(self, state: DistributionState) -> Outcome:
        """``rfid`` and ``fid``."""
        originals = gaussian(state.originals)
        note = ""
        if originals.count <= FEATURE_WIDTH:
            note = "biased upwards: fewer pictures than features; compares only at this n"
        clouds = {"rfid": state.reconstructions, "fid": state.drawings}
        scores = (
            Score(
                metric=name,
                value=frechet_distance(originals, gaussian(cloud)),
                unit="",
                n=originals.count,
                protocol=protocol(name),
                note=note,
            )
            for name, cloud in clouds.items()
        )
        return Outcome(scores=tuple(scores))


def protocol(metric: str) -> str:
    """How ``rfid`` or ``fid`` is measured."""
    what = {"rfid": "reconstructions", "fid": "one drawing a caption"}[metric]
    return f"{metric}/1: {what} against the same pictures, fitted to the model's size; {PROTOCOL}"


def not_measured() -> Outcome:
    """What stands in for the figures where no weights are given."""
    reason = "no Inception weights given; name the standard file pt_inception-2015-12-05-6726825d.pth"
    return Outcome(
        scores=tuple(
            Score.not_measured(metric, "", protocol=protocol(metric), reason=reason) for metric in ("rfid", "fid")
        )
    )


Features = Float32[np.ndarray, "n 2048"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DistributionState:
    """Features of the pictures, of their reconstructions, and of what was drawn for their captions; one array a part.

    Rows travel from the workers, since the sums of one part, three matrices of 2048 x 2048, weigh a hundred times as
    much.
    """

    originals: tuple[Features, ...]
    reconstructions: tuple[Features, ...]
    drawings: tuple[Features, ...]

    def __add__(self, other: DistributionState) -> DistributionState:
        return DistributionState(
            originals=self.originals + other.originals,
            reconstructions=self.reconstructions + other.reconstructions,
            drawings=self.drawings + other.drawings,
        )


def gaussian(parts: tuple[Features, ...]) -> GaussianStats:
    """The sums over all rows, added part by part."""
    return reduce(add, (GaussianStats.of(torch.from_numpy(np.array(rows))) for rows in parts))


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributionPart:
    """A batch of rows."""

    batch: Rows

    @property
    def num_pictures(self) -> int:
        """Pictures that go through the feature network."""
        return 3 * len(self.batch.rows)

    def compute(self, material: Material) -> DistributionState:
        """Draw, reconstruct, and take features."""
        tokenizer = material.pipeline.tokenizer
        schedule = material.pipeline.config.resolution.schedule(self.batch.aspect_ratio)
        originals = load_images(material.manifest, self.batch.rows, schedule.image_size_px(tokenizer.config.stride_px))
        return DistributionState(
            originals=(features(material, originals),),
            reconstructions=(features(material, reconstruct(tokenizer, originals, schedule)),),
            drawings=(features(material, draw(material, self.batch)),),
        )


def draw(material: Material, batch: Rows) -> UInt8[np.ndarray, "B H W 3"]:
    """One picture for the caption of every row; the seed of a row is the subject's seed plus its number."""
    captions = material.manifest.captions(batch.rows)
    seeds = [material.subject.seed + row for row in batch.rows]
    wanted = [Drawing(caption, seed, batch.aspect_ratio) for caption, seed in zip(captions, seeds, strict=True)]
    return drawn.draw(material, wanted)


@torch.no_grad()
def features(material: Material, images: UInt8[np.ndarray, "B H W 3"]) -> Features:
    """The 2048 Inception features of every picture."""
    prepared = prepare(torch.from_numpy(images).to(material.subject.device))
    return np.asarray(material.inception(prepared).features_2048.float().cpu().numpy())
