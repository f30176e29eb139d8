"""What a data set is built from and how, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.storing import StoringConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.versions import check_name
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.download.config import DownloadConfig
from infinity.generation.watermark.own_output import OwnOutputConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.dataset.scoring import ScorersConfig
from infinity.jobs.spec import JobReport, JobSpec
from infinity.perception.language.captioner import CaptionerConfig
from infinity.perception.scorers import ScorerConfig
from infinity.ranges import Count, Share, ShareBelowOne
from infinity.reporting.summary import DatasetSummary
from infinity.scales import ASPECT_RATIOS
from infinity.scenes.drawing import ScenesConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildDatasetSpec(JobSpec):
    """Sources and settings of a data set.

    Attributes:
        source: URI of an image folder, a table, shards, or a folder of those; None for drawn scenes.
        scenes: Settings of the drawn scenes; None if there is a source. With a parent both may be None.
        fingerprint: ``fingerprint(source)`` when the job was planned, so that a changed source makes another data set.
        captions: Choice of caption where a row has a long and a short one.
        columns: Names of the source's columns, where guessing is not enough.
        roots: URIs of further folders whose files the source may name, by links or in tables; what lies neither in them
            nor in the source is left out as ``outside_source``.
        download: Settings of the download where the source is a list of addresses.
        filters: Rules that leave pictures out.
        storing: Whether pictures are stored in a smaller size.
        scorers: Pretrained networks that score the pictures, for the thresholds in ``filters.models``.
        captioner: Vision-language model that writes long captions; the source's stay as the short ones.
        workers: Processes that run these networks; they change no result.
        partitions: Parts in which rows are compared and dealt to shards, so that no process holds all rows; none of
            them changes a result. None chooses by the number of slices, and takes one process for a small data set.
        aspect_ratios: Ratios (height / width) that pictures are sorted into.
        validation_share: Share of the pictures that is set aside, 0 to below 1.
        samples_per_shard: Most samples in one shard.
        shard_bytes: Most bytes of pictures in one shard.
        max_unreadable_share: The job fails if a larger share of the pictures cannot be read.
        seed: Seed of the validation split.
        parent: URI of the manifest of an earlier version in the same output: its sources come first, its pictures stay
            in their split, and its shards stay as they are wherever nothing in them changes.
        takedown: Pictures that must go, besides those that were taken down in earlier versions.
        name: Name of the data set whose next version this becomes; empty for none.
    """

    kind: ClassVar[str] = "dataset"
    later: ClassVar[frozenset[str]] = frozenset({"storing", "roots", "partitions"})
    elsewhere: ClassVar[frozenset[str]] = JobSpec.elsewhere | {"partitions"}

    source: str | None = None
    scenes: ScenesConfig | None = None
    fingerprint: str = ""
    captions: Literal["long", "short"] = "long"
    columns: SourceColumns = field(default_factory=SourceColumns)
    roots: tuple[str, ...] = ()
    download: DownloadConfig = field(default_factory=DownloadConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    storing: StoringConfig = field(default_factory=StoringConfig)
    scorers: tuple[ScorerConfig | OwnOutputConfig, ...] = ()
    captioner: CaptionerConfig | None = None
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    partitions: Count | None = None
    aspect_ratios: tuple[float, ...] = ASPECT_RATIOS
    validation_share: ShareBelowOne = 0.05
    samples_per_shard: Count = 512
    shard_bytes: Count = 256 * 2**20
    max_unreadable_share: Share = 0.5
    seed: int = 0
    parent: str | None = None
    takedown: TakedownList = field(default_factory=TakedownList)
    name: str = ""

    def __post_init__(self) -> None:
        name = type(self).__name__
        given = (self.source is not None) + (self.scenes is not None)
        if given == 2 or (given == 0 and self.parent is None):
            raise ValueError(f"{name}: expected either a source or scenes, got {'both' if given else 'neither'}")
        if not self.aspect_ratios or min(self.aspect_ratios) <= 0:
            raise ValueError(f"{name}.aspect_ratios: expected at least one, all positive, got {self.aspect_ratios}")
        if self.name:
            check_name(self.name)
        judges_of(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildDatasetReport(JobReport):
    """Place and content of the data set.

    Attributes:
        manifest: URI of the manifest.
        summary: Counts, ratios, splits, examples for each reason, thumbnails.
        unreadable: Number of unreadable pictures by reason.
        seconds: Time the job took.
        not_read: Sentences about files and rows of the sources that are no rows of the data set.
    """

    manifest: str
    summary: DatasetSummary
    unreadable: dict[str, int]
    seconds: float
    not_read: tuple[str, ...] = ()


def judges_of(spec: BuildDatasetSpec) -> ScorersConfig | None:
    """Return the networks that the spec names; None for none."""
    judges = ScorersConfig(
        scorers=spec.scorers,
        captioner=spec.captioner,
        captions=spec.captions,
        workers=spec.workers,
        max_pixels=spec.filters.max_pixels,
    )
    return judges if judges.scorers or judges.captioner else None
