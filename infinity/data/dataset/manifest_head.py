"""The head of a manifest: counts, shards with checksums, sources, and why the data set is what it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from infinity.config import Config
from infinity.data.curation.histograms import Histogram
from infinity.data.curation.rule_counts import RuleCount
from infinity.data.curation.takedown import TakedownList
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.samples import CaptionChoice
from infinity.scenes.drawing import ScenesConfig

FORMAT = 2
PARTS_FORMAT = 3
"""Format of a head whose rows lie in files of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardInfo(Config):
    """One tar file of the data set: path relative to the manifest, size, checksum and number of samples."""

    path: str
    num_bytes: int
    num_samples: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRecord(Config):
    """One source of a data set, as it was when its pictures were measured.

    Attributes:
        source: URI; None for drawn scenes.
        scenes: Settings of the drawn scenes, or None.
        fingerprint: Text that changes when the source does.
        captions: Choice of caption where a row has a long and a short one.
        columns: Names of columns, where guessing was not enough.
        download: Settings of the download, if the source is a list of addresses.
        roots: Further folders whose files the source might name.
    """

    later: ClassVar[frozenset[str]] = frozenset({"roots"})

    source: str | None = None
    scenes: ScenesConfig | None = None
    fingerprint: str = ""
    captions: CaptionChoice = "long"
    columns: SourceColumns = field(default_factory=SourceColumns)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    roots: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON without added fields at their defaults: older manifests keep their digest."""
        return self.identity()


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestHead(Config):
    """Facts about the data set as a whole.

    Attributes:
        counts: Numbers of rows: read, kept, unreadable and one ``dropped_<reason>`` per reason; read is the sum of the
            others.
        unreadable: Number of unreadable pictures by reason.
        shards: Shards in the order of the table.
        spec: The settings the data set was built with, filters included.
        root: Folder where the paths of shards begin: "." for the manifest's folder, ".." for the folder above it.
        parent: Digest of the manifest that this one was made from; empty if it was made from sources alone.
        parent_uri: Place of the parent's manifest, below the root or absolute.
        sources: All sources, in the order of their rows.
        takedown: Pictures that were taken down, here and in all versions before.
        rules: Every rule with its setting and its count.
        histograms: Histogram of each score over the readable pictures.
        examples: A few examples of each reason.
        code_version: Version of the program that wrote the data set.
        converted: Number of pictures by colour profile whose colours were converted to sRGB; of these ``sha256``
            differs from ``original_sha256``.
        cleaned: Number of captions by what was removed from them: invisible marks, control characters.
    """

    later: ClassVar[frozenset[str]] = frozenset({"converted", "cleaned"})

    counts: dict[str, int]
    unreadable: dict[str, int]
    shards: tuple[ShardInfo, ...]
    spec: dict[str, Any]
    root: Literal[".", ".."] = "."
    parent: str = ""
    parent_uri: str = ""
    sources: tuple[SourceRecord, ...] = ()
    takedown: TakedownList = field(default_factory=TakedownList)
    rules: tuple[RuleCount, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    code_version: str = ""
    format: int = FORMAT
    converted: dict[str, int] = field(default_factory=dict)
    cleaned: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the head as JSON without added fields at their defaults: older manifests keep their digest."""
        return {name: value for name, value in Config.to_json(self).items() if name not in self.later or value}
