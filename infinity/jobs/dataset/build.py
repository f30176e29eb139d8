"""Build a data set: captioned pictures in; shards, a manifest and a report of every picture's fate out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import cast

import pyarrow as pa

from infinity import storage
from infinity.data.curation.dropped import DROPPED_FILE, shown_rows, write_dropped
from infinity.data.curation.facts import MEASURE_VERSION, READING_VERSION
from infinity.data.curation.languages import check_languages
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.dealing import ShardLimits
from infinity.data.dataset.layout import SHARD_VERSION, ShardPlan, ShardPlans, Stored, plan_shards
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ManifestHead, ShardInfo
from infinity.data.dataset.manifest_parts import ROWS_PER_PART
from infinity.data.dataset.manifest_rows import FULL_SCHEMA, has_further, with_further
from infinity.data.dataset.shards import write_shard
from infinity.data.dataset.versions import check_next, publish
from infinity.data.memory import give_back
from infinity.data.sources.opening import Slice, fingerprint
from infinity.data.tables import WaitingRows
from infinity.jobs.cluster.connection import connect
from infinity.jobs.cluster.fan_out import each_result
from infinity.jobs.dataset.decisions import FilterDecisions, counts_of, decide_again, decide_rows, nothing_left
from infinity.jobs.dataset.dropped_pictures import dropped_pictures
from infinity.jobs.dataset.facts import DatasetError, OpenedSource, SourceTable, gather, open_record
from infinity.jobs.dataset.large.build import (
    decide_again_large,
    decide_large,
    gather_places,
    is_large,
    plan_large,
    save_dropped_parts,
)
from infinity.jobs.dataset.large.planning import PartedPlans
from infinity.jobs.dataset.sources import only_takes_down, sources_of, stores_as, takedown_of
from infinity.jobs.dataset.spec import BuildDatasetReport, BuildDatasetSpec, judges_of
from infinity.jobs.dataset.summary import save_thumbnails, summarize
from infinity.jobs.ownership import Tenure, once
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.jobs.spec import begin, commit

__all__ = ["BuildDatasetReport", "BuildDatasetSpec", "DatasetError", "fingerprint", "run"]

MANIFEST_FILE = "manifest.parquet"


def run(spec: BuildDatasetSpec, *, progress: ProgressSink = silent) -> BuildDatasetReport:
    """Build the data set; a finished spec is not computed twice, and what an interrupted job finished is kept.

    The pictures come from the sources of the parent, if there is one, and from the spec's own. Shards of the parent in
    which nothing changes are not written again.

    Raises:
        SourceError: The source is empty, of an unknown form, or without captions; or it changed meanwhile.
        DatasetError: No picture is left, or too many cannot be read.
        LanguageError: Captions are to be in a language that nothing here can tell.
        ManifestError: The parent is no manifest, or its shards are not what it says.
        VersionConflictError: Somebody else made the next version of the named data set meanwhile.
        StorageError: Source or output cannot be reached, or no space is left.
    """
    return once(spec, BuildDatasetReport, lambda tenure: _run(spec, tenure), progress)


def _run(spec: BuildDatasetSpec, tenure: Tenure) -> BuildDatasetReport:
    check_languages(spec.filters.captions.languages)  # before hours of measuring
    started, progress = time.monotonic(), tenure.progress
    progress(Progress(0.0, "looking at the source"))
    folder = storage.absolute(storage.join(spec.output, storage.name(spec.folder)))
    uri, root = storage.join(folder, MANIFEST_FILE), storage.parent(folder)
    parent = None if spec.parent is None else Manifest.load(storage.absolute(spec.parent))
    if spec.name:
        check_next(root, spec.name, parent)
    interrupted = storage.exists(uri)  # between the manifest and the report
    not_read: list[str] = []
    manifest = Manifest.load(uri) if interrupted else _build(spec, parent, uri, root, progress, not_read)
    summary = summarize(manifest, save_thumbnails(manifest, folder))
    if spec.name:
        publish(root, spec.name, manifest)
    progress(Progress(1.0, f"{summary.counts['kept']:,} of {summary.counts['read']:,} pictures kept"))
    report = BuildDatasetReport(
        manifest=manifest.uri,
        summary=summary,
        unreadable=manifest.head.unreadable,
        seconds=time.monotonic() - started,
        not_read=tuple(not_read),
    )
    return commit(spec, report)


def _build(
    spec: BuildDatasetSpec, parent: Manifest | None, uri: str, root: str, progress: ProgressSink, not_read: list[str]
) -> Manifest:
    """Do all the work up to the manifest, which is written last, and return it; what is not read joins ``not_read``."""
    takedown = takedown_of(spec, parent)
    records = () if only_takes_down(spec, parent) else sources_of(spec, parent)
    with WaitingRows(FULL_SCHEMA) as samples:
        with connect():
            joins = spec.filters.duplicates == "picture"  # else each row of a picture is a sample
            looking = section(progress, 0.0, 0.02)
            opened = tuple(open_record(record, spec.output, looking, joins) for record in records)
            not_read += [str(each) for source in opened for each in source.source.not_read]
            begin(spec)
            large = is_large(spec, opened, parent)
            decide = _decided_large if large else _decided
            rows, judged, planned, folder = decide(spec, opened, parent, takedown, uri, root, progress)
            give_back()
            shards, further = _write(spec, rows, planned, root, section(progress, 0.6, 0.95), samples)
            del planned  # with all that is known of the samples, before the manifest needs its room
        progress(Progress(0.95, "writing the manifest"))
        judged = judged.without_rows()
        sources = tuple(each.record for each in opened) or (parent.head.sources if parent else ())
        head = _head(spec, judged, parent, root, shards, samples.num_rows)
        give_back()
        head = head.replace(sources=sources, takedown=takedown)
        manifest = Manifest.write(uri, head, samples.tables(), further, ROWS_PER_PART if large else None)
    if folder:
        storage.delete_tree(folder)
    return manifest


_Decided = tuple[SourceTable | None, FilterDecisions, ShardPlans | PartedPlans, str]
"""Rows without their facts, what the manifest tells of those that go, the shards, and a folder that can go then."""


def _decided(
    spec: BuildDatasetSpec,
    opened: Sequence[OpenedSource],
    parent: Manifest | None,
    takedown: TakedownList,
    uri: str,
    root: str,
    progress: ProgressSink,
) -> _Decided:
    """Measure, decide and plan with all facts in this process."""
    rows = None
    if opened:
        measuring = section(progress, 0.02, 0.6)
        rows = gather(opened, spec.filters.max_pixels, root, measuring, judges_of(spec), spec.storing)
    judged = decide_rows(spec, rows, takedown) if rows else decide_again(cast(Manifest, parent), takedown)
    if rows and judged.dropped is not None:
        _save_dropped(rows, judged.dropped, spec, storage.parent(uri))
    _require_rows(spec, judged, judged.kept.num_rows, opened)
    rows = rows.without_facts() if rows else None
    give_back()
    return rows, judged, _planned(spec, rows, judged, parent), ""


def _decided_large(
    spec: BuildDatasetSpec,
    opened: Sequence[OpenedSource],
    parent: Manifest | None,
    takedown: TakedownList,
    uri: str,
    root: str,
    progress: ProgressSink,
) -> _Decided:
    """Measure, decide and plan in parts, so that no process holds all rows."""
    deciding, planning = section(progress, 0.5, 0.56), section(progress, 0.56, 0.6)
    if not opened:
        assert parent is not None
        found, judged = decide_again_large(spec, parent, takedown, root, deciding)
        _require_rows(spec, judged, found.counts.kept, opened)
        planned = plan_large(spec, [()] * len(found.kept), found, parent, planning)
        return None, judged, planned, found.work.folder
    rows = gather_places(spec, opened, root, section(progress, 0.02, 0.5))
    found, judged = decide_large(spec, rows, takedown, root, deciding)
    save_dropped_parts(spec, rows, found.dropped, storage.join(storage.parent(uri), DROPPED_FILE))
    _require_rows(spec, judged, found.counts.kept, opened)
    planned = plan_large(spec, rows.reduced, found, parent, planning)
    return rows.table, judged, planned, found.work.folder


def _require_rows(spec: BuildDatasetSpec, judged: FilterDecisions, number: int, opened: Sequence[OpenedSource]) -> None:
    if not number:
        hint = next((each.source.hint for each in opened if each.source.hint), "")
        raise DatasetError(nothing_left(spec, judged.tally, hint))


def _head(
    spec: BuildDatasetSpec,
    judged: FilterDecisions,
    parent: Manifest | None,
    root: str,
    shards: tuple[ShardInfo, ...],
    num_samples: int,
) -> ManifestHead:
    """Return what the manifest says of the whole, but for the sources and what was taken down."""
    return ManifestHead(
        counts=counts_of(judged.tally, num_samples),
        unreadable=judged.tally.unreadable,
        shards=shards,
        spec={
            name: value
            for name, value in spec.to_json().items()
            if name not in ("output", "parent", "takedown", "workers", "partitions") and (name != "roots" or value)
        },
        root="..",
        parent=parent.digest if parent else "",
        parent_uri=_below(parent.uri, root) if parent else "",
        rules=judged.rules,
        histograms=judged.histograms,
        examples=judged.tally.examples,
        converted=judged.converted,
        cleaned=judged.cleaned,
        code_version=f"{version('infinity-t2i')}, facts {MEASURE_VERSION}.{READING_VERSION}, shards {SHARD_VERSION}",
    )


def _save_dropped(rows: SourceTable, dropped: pa.Table, spec: BuildDatasetSpec, folder: str) -> None:
    """Write the dropped rows beside the manifest, with examples to look at."""
    pictures = dropped_pictures(rows, dropped, spec.filters.max_pixels)
    thumbnails = rows.thumbnails_of(shown_rows(dropped))
    with storage.create(storage.join(folder, DROPPED_FILE)) as file:
        write_dropped(file, [dropped], thumbnails, pictures)


def _planned(
    spec: BuildDatasetSpec, rows: SourceTable | None, judged: FilterDecisions, parent: Manifest | None
) -> ShardPlans:
    kept, origins = rows.as_stored(judged.kept) if rows else (judged.kept, {})
    reduces = spec.storing.side_px is not None
    return plan_shards(
        kept,
        aspect_ratios=spec.aspect_ratios,
        validation_share=spec.validation_share,
        limits=ShardLimits(samples=spec.samples_per_shard, num_bytes=spec.shard_bytes),
        seed=spec.seed,
        parent=parent,
        stored=Stored(
            digest=spec.storing.recipe if reduces else "", origins=origins, as_parent=stores_as(parent, spec)
        ),
    )


def _write(
    spec: BuildDatasetSpec,
    rows: SourceTable | None,
    planned: ShardPlans | PartedPlans,
    root: str,
    progress: ProgressSink,
    samples: WaitingRows,
) -> tuple[tuple[ShardInfo, ...], bool]:
    """Write all new shards on the cluster; their rows of the manifest join ``samples``.

    Returns:
        All shards in order, and whether some row has further captions.
    """
    give_back()
    number = planned.num_new

    def on_done(done: int) -> None:
        progress(Progress(done / number, f"wrote {done:,} of {number:,} shards"))

    def calls() -> Iterator[tuple[ShardPlan, tuple[Slice, ...], str, int]]:
        for plan in planned.new():
            numbers = zip(plan.samples["row"].to_pylist(), plan.samples["key"].to_pylist(), strict=True)
            needed = [row for row, key in numbers if key not in plan.origins]
            yield plan, rows.slices_of(needed) if rows else (), root, spec.filters.max_pixels

    shards: list[ShardInfo] = []
    further = False
    for shard in planned.joined(each_result(write_shard, calls(), on_done)):
        shards.append(shard.info)
        further |= has_further(shard.rows)
        samples.add(with_further(shard.rows))
    return tuple(shards), further


def _below(uri: str, root: str) -> str:
    """Return the part of a URI below the root, or the whole where it lies elsewhere."""
    return uri[len(root.rstrip("/")) + 1 :] if uri.startswith(root.rstrip("/") + "/") else uri
