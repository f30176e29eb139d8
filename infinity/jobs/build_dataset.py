"""Build a data set: captioned pictures in; shards, a manifest and a report of every picture's fate out."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import ClassVar, Literal, cast

import numpy as np
import pyarrow as pa

from infinity import storage
from infinity.data.batches import load_images
from infinity.data.checking import UNREADABLE, Tally
from infinity.data.columns import SourceColumns
from infinity.data.decisions import decide
from infinity.data.decontamination import load_evaluation_sets
from infinity.data.download.config import DownloadConfig
from infinity.data.dropped import DROPPED_FILE, dropped_file
from infinity.data.facts import MEASURE_VERSION
from infinity.data.filters import FilterConfig
from infinity.data.histograms import Histogram
from infinity.data.layout import SHARD_VERSION, KeptShard, ShardLimits, ShardPlan, plan_shards, samples_of
from infinity.data.manifest import SCHEMA, Manifest, ManifestHead, SourceRecord
from infinity.data.pictures import compose_sheet
from infinity.data.rule_counts import RuleCount
from infinity.data.scenes import ScenesConfig
from infinity.data.shards import WrittenShard, write_shard
from infinity.data.sources import fingerprint
from infinity.data.takedown import TakedownList, split_taken_down
from infinity.data.versions import check_name, check_next, publish
from infinity.jobs.cluster import connect
from infinity.jobs.dataset_facts import DatasetError, Rows, gather, open_record
from infinity.jobs.fan_out import fan_out
from infinity.jobs.judging import JudgesConfig
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit, is_done, load_report
from infinity.jobs.training import WorkersConfig
from infinity.perception.captioner import CaptionerConfig
from infinity.perception.scorers import ScorerConfig
from infinity.reporting.summary import DatasetSummary
from infinity.scales import ASPECT_RATIOS

__all__ = ["BuildDatasetReport", "BuildDatasetSpec", "DatasetError", "fingerprint", "run"]

MANIFEST_FILE = "manifest.parquet"
THUMBNAILS_FILE = "thumbnails.png"

_THUMBNAILS = 40
_THUMBNAIL_COLUMNS = 10
_THUMBNAIL_PX = 96
_CAPTION_EXAMPLES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildDatasetSpec(JobSpec):
    """What to build a data set from, and how.

    Attributes:
        source: URI of an image folder, a table, shards, or a folder of those; None for drawn scenes.
        scenes: Which scenes to draw; None if there is a source. With a parent both may be None.
        fingerprint: ``fingerprint(source)`` when the job was planned, so that a changed source makes another data set.
        captions: Which caption is taken where a row has a long and a short one.
        columns: Names of the source's columns, where guessing is not enough.
        download: How pictures are fetched where the source is a list of addresses.
        filters: Which pictures are left out.
        scorers: Pretrained networks that score the pictures, for the thresholds in ``filters.models``.
        captioner: Vision-language model that writes long captions; the source's stay as the short ones.
        workers: Who runs these networks; changes no result.
        aspect_ratios: Ratios (height / width) that pictures are sorted into.
        validation_share: Share of the pictures that is set aside, 0 to below 1.
        samples_per_shard: Most samples in one shard.
        shard_bytes: Most bytes of pictures in one shard.
        max_unreadable_share: The job fails if a larger share of the pictures cannot be read.
        seed: Another seed sets aside other pictures.
        parent: URI of the manifest of an earlier version in the same output: its sources come first, its pictures stay
            in their split, and its shards stay as they are wherever nothing in them changes.
        takedown: Pictures that must go, besides those that were taken down in earlier versions.
        name: Name of the data set whose next version this becomes; empty for none.
    """

    kind: ClassVar[str] = "dataset"

    source: str | None = None
    scenes: ScenesConfig | None = None
    fingerprint: str = ""
    captions: Literal["long", "short"] = "long"
    columns: SourceColumns = field(default_factory=SourceColumns)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    scorers: tuple[ScorerConfig, ...] = ()
    captioner: CaptionerConfig | None = None
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    aspect_ratios: tuple[float, ...] = ASPECT_RATIOS
    validation_share: float = 0.05
    samples_per_shard: int = 512
    shard_bytes: int = 256 * 2**20
    max_unreadable_share: float = 0.5
    seed: int = 0
    parent: str | None = None
    takedown: TakedownList = field(default_factory=TakedownList)
    name: str = ""

    def __post_init__(self) -> None:
        JobSpec.__post_init__(self)
        name = type(self).__name__
        given = (self.source is not None) + (self.scenes is not None)
        if given == 2 or (given == 0 and self.parent is None):
            raise ValueError(f"{name}: expected either a source or scenes, got {'both' if given else 'neither'}")
        if not self.aspect_ratios or min(self.aspect_ratios) <= 0:
            raise ValueError(f"{name}.aspect_ratios: expected at least one, all positive, got {self.aspect_ratios}")
        if not 0 <= self.validation_share < 1 or not 0 <= self.max_unreadable_share <= 1:
            raise ValueError(
                f"{name}: expected shares of at least 0 and below 1, got validation_share {self.validation_share} and "
                f"max_unreadable_share {self.max_unreadable_share}"
            )
        if self.samples_per_shard < 1 or self.shard_bytes < 1:
            raise ValueError(
                f"{name}.samples_per_shard, shard_bytes: expected at least 1, got {self.samples_per_shard} and "
                f"{self.shard_bytes}"
            )
        if self.name:
            check_name(self.name)
        _judges(self)


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
    """Build the data set; a finished spec is not computed twice, and what an interrupted job finished is kept.

    The pictures come from the sources of the parent, if there is one, and from the spec's own. Shards of the parent in
    which nothing changes are not written again.

    Raises:
        SourceError: The source is empty, of an unknown form, or without captions; or it changed meanwhile.
        DatasetError: No picture is left, or too many cannot be read.
        ManifestError: The parent is no manifest, or its shards are not what it says.
        VersionConflictError: Somebody else made the next version of the named data set meanwhile.
        StorageError: Source or output cannot be reached, or no space is left.
    """
    if is_done(spec):
        return load_report(spec, BuildDatasetReport)
    started = time.monotonic()
    progress(Progress(0.0, "looking at the source"))
    folder = storage.absolute(storage.join(spec.output, storage.name(spec.folder)))
    uri, root = storage.join(folder, MANIFEST_FILE), storage.parent(folder)
    parent = None if spec.parent is None else Manifest.load(storage.absolute(spec.parent))
    if spec.name:
        check_next(root, spec.name, parent)
    interrupted = storage.exists(uri)  # between the manifest and the report
    manifest = Manifest.load(uri) if interrupted else _build(spec, parent, uri, root, progress)
    summary = _summarise(manifest, _save_thumbnails(manifest, folder))
    if spec.name:
        publish(root, spec.name, manifest)
    progress(Progress(1.0, f"{summary.counts['kept']:,} of {summary.counts['read']:,} pictures kept"))
    report = BuildDatasetReport(
        manifest=manifest.uri,
        summary=summary,
        unreadable=manifest.head.unreadable,
        seconds=time.monotonic() - started,
    )
    return commit(spec, report)


def _build(spec: BuildDatasetSpec, parent: Manifest | None, uri: str, root: str, progress: ProgressSink) -> Manifest:
    """Everything up to the manifest, which is written last."""
    takedown = _takedown(spec, parent)
    records = () if _only_takes_down(spec, parent) else _sources(spec, parent)
    with connect():
        opened = tuple(open_record(record, spec.output, section(progress, 0.0, 0.02)) for record in records)
        begin(spec)
        rows = (
            gather(opened, spec.filters.max_pixels, root, section(progress, 0.02, 0.6), _judges(spec))
            if opened
            else None
        )
        judged = _judge(spec, rows, takedown) if rows else _judge_again(cast(Manifest, parent), takedown)
        if rows and judged.dropped is not None:
            storage.write_bytes(
                storage.join(storage.parent(uri), DROPPED_FILE), dropped_file(judged.dropped, rows.facts)
            )
        if not judged.kept.num_rows:
            raise DatasetError(_nothing_left(spec, judged.tally))
        planned = plan_shards(
            judged.kept,
            aspect_ratios=spec.aspect_ratios,
            validation_share=spec.validation_share,
            limits=ShardLimits(samples=spec.samples_per_shard, num_bytes=spec.shard_bytes),
            seed=spec.seed,
            parent=parent,
        )
        shards = _write(spec, rows, planned, root, section(progress, 0.6, 0.95))
    progress(Progress(0.95, "writing the manifest"))
    table = pa.concat_tables([shard.rows.cast(SCHEMA) for shard in shards])
    head = ManifestHead(
        counts=_counts(judged.tally, table.num_rows),
        unreadable=judged.tally.unreadable,
        shards=tuple(shard.info for shard in shards),
        spec={
            name: value
            for name, value in spec.to_json().items()
            if name not in ("output", "parent", "takedown", "workers")
        },
        root="..",
        parent=parent.digest if parent else "",
        parent_uri=_below(parent.uri, root) if parent else "",
        sources=tuple(each.record for each in opened) or (parent.head.sources if parent else ()),
        takedown=takedown,
        rules=judged.rules,
        histograms=judged.histograms,
        examples=judged.tally.examples,
        code_version=f"{version('infinity-t2i')}, facts {MEASURE_VERSION}, shards {SHARD_VERSION}",
    )
    manifest = Manifest(uri=uri, head=head, table=table)
    manifest.save()
    return manifest


def _judges(spec: BuildDatasetSpec) -> JudgesConfig | None:
    """The networks that the spec names; None for none."""
    judges = JudgesConfig(
        scorers=spec.scorers,
        captioner=spec.captioner,
        captions=spec.captions,
        workers=spec.workers,
        max_pixels=spec.filters.max_pixels,
    )
    return judges if judges.scorers or judges.captioner else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """Samples that stay, and what the manifest tells about the others."""

    kept: pa.Table
    tally: Tally
    rules: tuple[RuleCount, ...]
    histograms: tuple[Histogram, ...]
    dropped: pa.Table | None = None


def _judge(spec: BuildDatasetSpec, rows: Rows, takedown: TakedownList) -> _Judged:
    """Decide on all rows; what was taken down is out before duplicates are looked for."""
    facts, taken = split_taken_down(rows.facts, takedown)
    evaluation = load_evaluation_sets(spec.filters.evaluation, spec.filters.max_pixels)
    decisions = decide(facts, spec.filters, evaluation)
    tally = taken + decisions.tally
    _refuse_unreadable(spec, tally)
    return _Judged(
        kept=decisions.kept,
        tally=tally,
        rules=decisions.rules,
        histograms=decisions.histograms,
        dropped=decisions.dropped,
    )


def _judge_again(parent: Manifest, takedown: TakedownList) -> _Judged:
    """The parent without what was taken down, from its manifest alone: sources and facts may be gone."""
    kept, taken = split_taken_down(samples_of(parent), takedown)
    head = parent.head
    dropped = {
        name.removeprefix("dropped_"): number for name, number in head.counts.items() if name.startswith("dropped_")
    }
    before = Tally(
        read=head.counts["read"] - taken.read, dropped=dropped, unreadable=head.unreadable, examples=head.examples
    )
    return _Judged(kept=kept, tally=before + taken, rules=head.rules, histograms=head.histograms)


def _only_takes_down(spec: BuildDatasetSpec, parent: Manifest | None) -> bool:
    """Whether the parent's rows can stay without another look at their facts."""
    if parent is None or spec.source is not None or spec.scenes is not None:
        return False
    return all(
        parent.head.spec.get(name) == spec.to_json()[name] for name in ("filters", "captions", "scorers", "captioner")
    )


def _sources(spec: BuildDatasetSpec, parent: Manifest | None) -> tuple[SourceRecord, ...]:
    """The parent's sources, then the spec's own, which takes the place of an earlier state of itself."""
    before = parent.head.sources if parent else ()
    if spec.source is None and spec.scenes is None:
        return before
    uri = None if spec.source is None else storage.absolute(spec.source)
    own = SourceRecord(
        source=uri,
        scenes=spec.scenes,
        fingerprint=spec.fingerprint,
        captions=spec.captions,
        columns=spec.columns,
        download=spec.download,
    )
    same = [(own.source, own.scenes) == (each.source, each.scenes) for each in before]
    if any(same):
        return tuple(own if is_same else each for is_same, each in zip(same, before, strict=True))
    return (*before, own)


def _takedown(spec: BuildDatasetSpec, parent: Manifest | None) -> TakedownList:
    """The spec's list and the parent's; pictures that the list names as they lie in shards are named as found, too."""
    wanted = set(spec.takedown.sha256)
    found: tuple[str, ...] = ()
    if parent is not None and wanted:
        columns = (parent.table[name].to_pylist() for name in ("sha256", "original_sha256"))
        found = tuple(original for stored, original in zip(*columns, strict=True) if stored in wanted)
    takedown = spec.takedown | TakedownList(sha256=found)
    return takedown | parent.head.takedown if parent else takedown


def _write(
    spec: BuildDatasetSpec,
    rows: Rows | None,
    planned: tuple[ShardPlan | KeptShard, ...],
    root: str,
    progress: ProgressSink,
) -> list[WrittenShard | KeptShard]:
    """Write all new shards on the cluster; all shards in order."""
    plans = [plan for plan in planned if isinstance(plan, ShardPlan)]

    def on_done(done: int) -> None:
        progress(Progress(done / len(plans), f"wrote {done:,} of {len(plans):,} shards"))

    calls = []
    for plan in plans:
        samples = zip(plan.samples["row"].to_pylist(), plan.samples["key"].to_pylist(), strict=True)
        needed = [row for row, key in samples if key not in plan.origins]
        slices = rows.slices_of(needed) if rows else ()
        calls.append((plan, slices, root, spec.filters.max_pixels))
    written = iter(fan_out(write_shard, calls, on_done))
    return [next(written) if isinstance(plan, ShardPlan) else plan for plan in planned]


def _counts(tally: Tally, kept: int) -> dict[str, int]:
    unreadable, dropped = sum(tally.unreadable.values()), sum(tally.dropped.values())
    if tally.read != kept + dropped + unreadable:
        raise RuntimeError(f"{tally.read} read, but {kept} kept + {dropped} dropped + {unreadable} unreadable")
    counts = {"read": tally.read, "kept": kept, UNREADABLE: unreadable}
    return counts | {f"dropped_{reason}": number for reason, number in tally.dropped.items()}


def _below(uri: str, root: str) -> str:
    """The part of a URI below the root, or the whole where it lies elsewhere."""
    return uri[len(root.rstrip("/")) + 1 :] if uri.startswith(root.rstrip("/") + "/") else uri


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


def _summarise(manifest: Manifest, thumbnails: str) -> DatasetSummary:
    ratios = Counter(manifest.aspect_ratios.tolist())
    splits = Counter(manifest.table["split"].to_pylist())
    captions = manifest.captions(_spread(len(manifest), _CAPTION_EXAMPLES))
    return DatasetSummary(
        counts=manifest.head.counts,
        ratios={f"{ratio:.3f}": ratios[ratio] for ratio in sorted(ratios)},
        splits={split: splits[split] for split in ("train", "validation")},
        examples=manifest.head.examples,
        caption_examples=tuple(captions),
        num_shards=len(manifest.head.shards),
        num_bytes=sum(shard.num_bytes for shard in manifest.head.shards),
        thumbnails=thumbnails,
        rules=manifest.head.rules,
        histograms=manifest.head.histograms,
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
    return spec.source or ("drawn scenes" if spec.scenes else str(spec.parent))


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
