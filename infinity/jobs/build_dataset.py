"""Build a data set: captioned pictures in; shards, a manifest and a report of every picture's fate out."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from infinity import storage
from infinity.data.batches import load_images
from infinity.data.checking import UNREADABLE, Tally
from infinity.data.decisions import decide
from infinity.data.facts import Measured, measure_slice
from infinity.data.filters import FilterConfig
from infinity.data.layout import ShardPlan, plan_shards
from infinity.data.manifest import SCHEMA, Manifest, ManifestHead
from infinity.data.pictures import compose_sheet
from infinity.data.scenes import ScenesConfig
from infinity.data.shards import WrittenShard, write_shard
from infinity.data.sources import Slice, Source, fingerprint, open_source, scene_source
from infinity.jobs.cluster import connect
from infinity.jobs.fan_out import fan_out
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit, is_done, load_report
from infinity.reporting.summary import DatasetSummary
from infinity.scales import ASPECT_RATIOS

__all__ = ["BuildDatasetReport", "BuildDatasetSpec", "DatasetError", "fingerprint", "run"]

MANIFEST_FILE = "manifest.parquet"
THUMBNAILS_FILE = "thumbnails.png"

_THUMBNAILS = 40
_THUMBNAIL_COLUMNS = 10
_THUMBNAIL_PX = 96
_CAPTION_EXAMPLES = 12


class DatasetError(ValueError):
    """The source makes no data set: nothing is left of it, or too much of it cannot be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildDatasetSpec(JobSpec):
    """What to build a data set from, and how.

    Attributes:
        source: URI of an image folder, a .jsonl or .parquet file, or a folder of those; None for drawn scenes.
        scenes: Which scenes to draw; None if there is a source.
        fingerprint: ``fingerprint(source)`` when the job was planned, so that a changed source makes another data set.
        captions: Which caption is taken where a row has a long and a short one.
        filters: Which pictures are left out.
        aspect_ratios: Ratios (height / width) that pictures are sorted into.
        validation_share: Share of the pictures that is set aside, 0 to below 1.
        samples_per_shard: Most samples in one shard.
        max_unreadable_share: The job fails if a larger share of the pictures cannot be read.
        seed: Another seed sets aside other pictures.
    """

    kind: ClassVar[str] = "dataset"

    source: str | None = None
    scenes: ScenesConfig | None = None
    fingerprint: str = ""
    captions: Literal["long", "short"] = "long"
    filters: FilterConfig = field(default_factory=FilterConfig)
    aspect_ratios: tuple[float, ...] = ASPECT_RATIOS
    validation_share: float = 0.05
    samples_per_shard: int = 512
    max_unreadable_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        JobSpec.__post_init__(self)
        name = type(self).__name__
        if (self.source is None) == (self.scenes is None):
            raise ValueError(
                f"{name}: expected either a source or scenes, got {'neither' if self.scenes is None else 'both'}"
            )
        if not self.aspect_ratios or min(self.aspect_ratios) <= 0:
            raise ValueError(f"{name}.aspect_ratios: expected at least one, all positive, got {self.aspect_ratios}")
        if not 0 <= self.validation_share < 1 or not 0 <= self.max_unreadable_share <= 1:
            raise ValueError(
                f"{name}: expected shares of at least 0 and below 1, got validation_share {self.validation_share} and "
                f"max_unreadable_share {self.max_unreadable_share}"
            )
        if self.samples_per_shard < 1:
            raise ValueError(f"{name}.samples_per_shard: expected at least 1, got {self.samples_per_shard}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildDatasetReport(JobReport):
    """Where the data set lies and what is in it.

    Attributes:
        manifest: URI of the manifest.
        summary: Counts, ratios, splits, examples for each reason, thumbnails.
        unreadable: How many pictures were unreadable for which reason.
        seconds: Time the job took.
    """

    manifest: str
    summary: DatasetSummary
    unreadable: dict[str, int]
    seconds: float


def run(spec: BuildDatasetSpec, *, progress: ProgressSink = silent) -> BuildDatasetReport:
    """Build the data set; a finished spec is not computed twice, and finished shards of an interrupted job are kept.

    Raises:
        SourceError: The source is empty, of an unknown form, or without captions; or it changed meanwhile.
        DatasetError: No picture is left, or too many cannot be read.
        StorageError: Source or output cannot be reached, or no space is left.
    """
    if is_done(spec):
        return load_report(spec, BuildDatasetReport)
    started = time.monotonic()
    progress(Progress(0.0, "looking at the source"))
    source = _open(spec)
    folder = storage.absolute(begin(spec))
    with connect():
        candidates, tally = _check(spec, source, section(progress, 0.02, 0.6))
        plans = plan_shards(
            candidates,
            aspect_ratios=spec.aspect_ratios,
            validation_share=spec.validation_share,
            samples_per_shard=spec.samples_per_shard,
            seed=spec.seed,
        )
        written = _write(spec, source, plans, folder, section(progress, 0.6, 0.95))
    progress(Progress(0.95, "writing the manifest"))
    manifest = _save_manifest(spec, tally, written, folder)
    summary = _summarise(manifest, tally, _save_thumbnails(manifest, folder))
    progress(Progress(1.0, f"{summary.counts['kept']:,} of {summary.counts['read']:,} pictures kept"))
    report = BuildDatasetReport(
        manifest=manifest.uri, summary=summary, unreadable=tally.unreadable, seconds=time.monotonic() - started
    )
    return commit(spec, report)


def _open(spec: BuildDatasetSpec) -> Source:
    if spec.source is None:
        assert spec.scenes is not None
        return scene_source(spec.scenes)
    uri = storage.absolute(spec.source)
    source = open_source(uri, captions=spec.captions)
    if spec.fingerprint and (found := fingerprint(uri)) != spec.fingerprint:
        raise DatasetError(
            f"{spec.source}: expected the fingerprint {spec.fingerprint}, found {found}: the source changed since the "
            "job was planned; plan it again"
        )
    return source


def _check(spec: BuildDatasetSpec, source: Source, progress: ProgressSink) -> tuple[pa.Table, Tally]:
    """Measure every picture on the cluster, then decide; the facts of what is kept in source order."""
    total = len(source.slices)

    def on_done(done: int) -> None:
        progress(Progress(done / total, f"checked {done:,} of {total:,} slices ({source.kind})"))

    calls = [(piece, spec.filters.max_pixels) for piece in source.slices]
    measured: list[Measured] = fan_out(measure_slice, calls, on_done)
    decisions = decide(pa.concat_tables(part.facts for part in measured), spec.filters)
    _refuse_unreadable(spec, decisions.tally)
    if not decisions.kept.num_rows:
        raise DatasetError(_nothing_left(spec, decisions.tally))
    return decisions.kept, decisions.tally


def _write(
    spec: BuildDatasetSpec, source: Source, plans: tuple[ShardPlan, ...], folder: str, progress: ProgressSink
) -> list[WrittenShard]:
    """Write all shards on the cluster."""
    first_rows = [piece.first_row for piece in source.slices]

    def slices_of(plan: ShardPlan) -> tuple[Slice, ...]:
        needed = sorted({bisect_right(first_rows, row) - 1 for row in plan.samples["row"].to_pylist()})
        return tuple(source.slices[index] for index in needed)

    def on_done(done: int) -> None:
        progress(Progress(done / len(plans), f"wrote {done:,} of {len(plans):,} shards"))

    calls = [(plan, slices_of(plan), folder, spec.filters.max_pixels) for plan in plans]
    return fan_out(write_shard, calls, on_done)


def _save_manifest(spec: BuildDatasetSpec, tally: Tally, written: list[WrittenShard], folder: str) -> Manifest:
    table = pa.concat_tables([shard.rows for shard in written]).cast(SCHEMA)
    unreadable, dropped = sum(tally.unreadable.values()), sum(tally.dropped.values())
    if tally.read != table.num_rows + dropped + unreadable:
        raise RuntimeError(
            f"{tally.read} read, but {table.num_rows} kept + {dropped} dropped + {unreadable} unreadable"
        )
    counts = {"read": tally.read, "kept": table.num_rows, UNREADABLE: unreadable}
    head = ManifestHead(
        counts=counts | {f"dropped_{reason}": number for reason, number in tally.dropped.items()},
        unreadable=tally.unreadable,
        shards=tuple(shard.info for shard in written),
        spec={name: value for name, value in spec.to_json().items() if name != "output"},
    )
    manifest = Manifest(uri=storage.join(folder, MANIFEST_FILE), head=head, table=table)
    manifest.save()
    return manifest


def _save_thumbnails(manifest: Manifest, folder: str) -> str:
    """A sheet of pictures spread evenly over the data set, each in the shape of its aspect ratio."""
    images = []
    for row in _spread(len(manifest), _THUMBNAILS):
        ratio = float(manifest.aspect_ratios[row])
        height, width = (round(_THUMBNAIL_PX * min(1.0, side)) for side in (ratio, 1 / ratio))
        images.append(load_images(manifest, [row], (max(1, height), max(1, width)))[0])
    uri = storage.join(folder, THUMBNAILS_FILE)
    storage.write_bytes(uri, compose_sheet(images, _THUMBNAIL_COLUMNS))
    return uri


def _summarise(manifest: Manifest, tally: Tally, thumbnails: str) -> DatasetSummary:
    ratios = Counter(manifest.aspect_ratios.tolist())
    splits = Counter(manifest.table["split"].to_pylist())
    captions = manifest.captions(_spread(len(manifest), _CAPTION_EXAMPLES))
    return DatasetSummary(
        counts=manifest.head.counts,
        ratios={f"{ratio:.3f}": ratios[ratio] for ratio in sorted(ratios)},
        splits={split: splits[split] for split in ("train", "validation")},
        examples=tally.examples,
        caption_examples=tuple(captions),
        num_shards=len(manifest.head.shards),
        num_bytes=sum(shard.num_bytes for shard in manifest.head.shards),
        thumbnails=thumbnails,
    )


def _spread(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` different row numbers, evenly over all."""
    return sorted({int(row) for row in np.linspace(0, total - 1, min(wanted, total))})


def _refuse_unreadable(spec: BuildDatasetSpec, tally: Tally) -> None:
    unreadable = sum(tally.unreadable.values())
    if unreadable > spec.max_unreadable_share * tally.read:
        raise DatasetError(
            f"{_name(spec)}: {unreadable} of {tally.read} pictures cannot be read ({_reasons(tally.unreadable)}), more "
            f"than the allowed share of {spec.max_unreadable_share:g}; {_for_example(tally)}"
        )


def _name(spec: BuildDatasetSpec) -> str:
    return spec.source or "drawn scenes"


def _nothing_left(spec: BuildDatasetSpec, tally: Tally) -> str:
    if not tally.read:
        return f"{_name(spec)}: found no rows"
    left_out = tally.dropped | {f"{UNREADABLE}_{reason}": number for reason, number in tally.unreadable.items()}
    if set(tally.dropped) == {"caption_missing"}:
        return (
            f"{_name(spec)}: no captions at all: {_reasons(left_out)} of {tally.read} pictures; give each a row "
            f"with a text in metadata.jsonl; {_for_example(tally)}"
        )
    return f"{_name(spec)}: no picture is left of {tally.read} ({_reasons(left_out)}); {_for_example(tally)}"


def _reasons(numbers: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(numbers.items(), key=lambda item: -item[1]))


def _for_example(tally: Tally) -> str:
    return "for example " + "; ".join(examples[0] for examples in tally.examples.values())
