"""A data set whose rows no process holds: measured, decided and planned in parts; the driver is told of numbers alone.

The shards, and the manifest but for where its rows lie, are those that one process makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from infinity import storage
from infinity.config import digest_of
from infinity.data.curation.answers import Answers
from infinity.data.curation.decontamination import load_evaluation_sets
from infinity.data.curation.dropped import SHOWN, write_dropped
from infinity.data.curation.facts import FACTS, SMALL_FACTS
from infinity.data.curation.measuring import measure_size
from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.row_rules import KEPT
from infinity.data.curation.partitioned.workspace import Chunk, Workspace
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.dealing import ShardLimits
from infinity.data.dataset.layout import samples_of
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.shards import ShiftedSlice
from infinity.data.sources.opening import ROWS_PER_SLICE, Slice
from infinity.jobs.cluster.fan_out import each_result
from infinity.jobs.dataset.decisions import FilterDecisions, refuse_unreadable, told_again
from infinity.jobs.dataset.dropped_pictures import dropped_pictures
from infinity.jobs.dataset.facts import OpenedSource, SourceTable, asked, measuring_calls
from infinity.jobs.dataset.large.parent_parts import ParentRows, find_again, keep_again
from infinity.jobs.dataset.large.partitioned import (
    DECIDE_VERSION,
    DECISIONS_FOLDER,
    ROWS_PER_PARTITION,
    PartitionedDecisions,
    Stages,
    added,
    chunks_of,
    decide_partitioned,
)
from infinity.jobs.dataset.large.plan_tasks import PlanConfig, Reduced
from infinity.jobs.dataset.large.planning import PartedPlans, plan_partitioned
from infinity.jobs.dataset.scoring import ask
from infinity.jobs.dataset.sources import stores_as
from infinity.jobs.dataset.spec import BuildDatasetSpec, judges_of
from infinity.jobs.progress import Progress, ProgressSink, section

LARGE_SLICES = 4096
"""Slices of a data set from which on it is made in parts: 260,000 pictures in slices of 64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeRows:
    """Where all rows lie, and the parts in which they are looked at.

    Attributes:
        table: Slices and places of facts, without any facts.
        chunks: Neighbouring slices that a task looks at.
        reduced: Places of the reduced pictures of each chunk.
    """

    table: SourceTable
    chunks: tuple[Chunk, ...]
    reduced: tuple[Reduced, ...]


def is_large(spec: BuildDatasetSpec, opened: Sequence[OpenedSource], parent: Manifest | None) -> bool:
    """Return whether a data set is made in parts: as its spec says, or else by its number of slices, or of rows."""
    if spec.partitions is not None:
        return True
    slices = sum(len(each.source.slices) for each in opened)
    if not opened and parent is not None:
        slices = len(parent) // ROWS_PER_SLICE
    return slices >= LARGE_SLICES


def gather_places(
    spec: BuildDatasetSpec, opened: Sequence[OpenedSource], root: str, progress: ProgressSink
) -> LargeRows:
    """Measure all slices that are unknown, ask the networks, and return where it all lies; see ``facts.gather``."""
    calls = measuring_calls(opened, spec.filters.max_pixels, root, spec.storing)
    judges = judges_of(spec)
    measuring = section(progress, 0.0, 0.5 if judges else 1.0)

    def on_done(done: int) -> None:
        measuring(Progress(done / len(calls), f"checked {done:,} of {len(calls):,} slices"))

    sizes = list(each_result(measure_size, ((call,) for call in calls), on_done))
    answers = ask(asked(calls), judges, root, section(progress, 0.5, 1.0)) if judges else Answers()
    slices, shifts, shift, place = list[Slice](), list[int](), 0, 0
    for each in opened:
        behind = shift
        for piece in each.source.slices:
            slices.append(ShiftedSlice(piece, shift) if shift else piece)
            shifts.append(shift)
            behind = max(behind, piece.first_row + shift + 1, sizes[place][1] + shift + 1)
            place += 1
        shift = behind
    told = zip(calls, shifts, slices, sizes, strict=True)
    files = ((call.facts, shift, piece.first_row, size[0]) for call, shift, piece, size in told)
    chunks = chunks_of(files, answers=answers)
    edges = list(accumulate((len(chunk.files) for chunk in chunks), initial=0))
    places = [(call.reduced, shift) for call, shift in zip(calls, shifts, strict=True)]
    reduced = [tuple(places[start:end]) if spec.storing.side_px else () for start, end in pairwise(edges)]
    return LargeRows(
        table=SourceTable(
            slices=tuple(slices),
            facts=pa.schema([FACTS.field(name) for name in SMALL_FACTS]).empty_table(),
            files=tuple(call.facts for call in calls),
            shifts=tuple(shifts),
        ),
        chunks=chunks,
        reduced=tuple(reduced),
    )


def decide_large(
    spec: BuildDatasetSpec, rows: LargeRows, takedown: TakedownList, root: str, progress: ProgressSink
) -> tuple[PartitionedDecisions, FilterDecisions]:
    """Decide on all rows in parts; see ``decisions.decide_rows``.

    Returns:
        Places of the rows that stay and of those that do not, and what the manifest tells about the others.

    Raises:
        DatasetError: Too many rows cannot be read.
    """
    sets = spec.filters.evaluation
    evaluation = load_evaluation_sets(sets, spec.filters.max_pixels) if sets.prompts or sets.pictures else None
    found = decide_partitioned(
        rows.chunks, spec.filters, takedown, root, progress, evaluation=evaluation, partitions=spec.partitions
    )
    counts = found.counts
    refuse_unreadable(spec, counts.tally)
    judged = FilterDecisions(
        kept=rows.table.facts,
        tally=counts.tally,
        rules=counts.rules,
        histograms=counts.histograms,
        converted=counts.converted,
        cleaned=counts.cleaned,
    )
    return found, judged


def decide_again_large(
    spec: BuildDatasetSpec, parent: Manifest, takedown: TakedownList, root: str, progress: ProgressSink
) -> tuple[PartitionedDecisions, FilterDecisions]:
    """Take pictures out of an earlier version in parts, from its manifest alone; see ``decisions.decide_again``."""
    rows = ParentRows.of(parent, reusable=True)
    partitions = spec.partitions or max(1, rows.num_rows // ROWS_PER_PARTITION)
    named = digest_of([DECIDE_VERSION, parent.digest, takedown.to_json(), partitions])
    work = Workspace(
        folder=storage.join(root, DECISIONS_FOLDER, named),
        first_rows=tuple(start for start, _ in rows.ranges),
        num_partitions=partitions,
        filters=spec.filters,
        takedown=takedown,
    )
    calls = [(work, number, rows) for number in range(len(rows.ranges))]
    stage = Stages(progress).run
    if takedown:
        stage(find_again, calls)
    counts = added(stage(keep_again, calls))
    kept = tuple(work.of_chunks(KEPT))
    judged = told_again(parent.head, samples_of(parent.piece(0, 0)), counts.tally, takedown)
    return PartitionedDecisions(counts=counts, kept=kept, dropped=(), work=work), judged


def plan_large(
    spec: BuildDatasetSpec,
    reduced: Sequence[Reduced],
    found: PartitionedDecisions,
    parent: Manifest | None,
    progress: ProgressSink,
) -> PartedPlans:
    """Deal the rows that stay to shards; see ``layout.plan_shards``.

    Args:
        spec: Spec of the data set.
        reduced: Places of the reduced pictures of each chunk.
        parent: The earlier version, or None.
        progress: Callback after every task.
    """
    before = None if parent is None else ParentRows.of(parent, stores_as(parent, spec))
    config = PlanConfig(
        aspect_ratios=tuple(sorted(set(spec.aspect_ratios))),
        validation_share=spec.validation_share,
        limits=ShardLimits(samples=spec.samples_per_shard, num_bytes=spec.shard_bytes),
        seed=spec.seed,
        storing=spec.storing.recipe if spec.storing.side_px is not None else "",
        parent="" if before is None else f"{before.digest} {before.reusable}",
    )
    folder = storage.join(found.work.folder, f"plan-{digest_of(config.to_json())}")
    work = replace(found.work, folder=folder)
    return plan_partitioned(work, found.kept, reduced, found.counts.kept, config, Stages(progress).run, before)


def save_dropped_parts(spec: BuildDatasetSpec, rows: LargeRows, dropped: Sequence[str], uri: str) -> None:
    """Write the dropped rows beside the manifest, with examples to look at; a chunk is in memory at a time."""
    shown: dict[str, int] = {}
    examples = list[pa.Table]()
    for part in dropped:
        table = read_bucket([part])
        for reason in pc.unique(table["reason"]).to_pylist():
            if (left := SHOWN - shown.get(reason, 0)) > 0:
                examples.append(table.filter(pc.equal(table["reason"], reason)).slice(0, left))
                shown[reason] = shown.get(reason, 0) + examples[-1].num_rows
    if not examples:
        examples = [read_bucket(dropped[:1])]
    chosen = pa.concat_tables(examples).sort_by("row")
    pictures = dropped_pictures(rows.table, chosen, spec.filters.max_pixels)
    thumbnails = rows.table.thumbnails_of(chosen["row"].to_pylist())
    with storage.create(uri) as file:
        write_dropped(file, (read_bucket([part]) for part in dropped), thumbnails, pictures)
