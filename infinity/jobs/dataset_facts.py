"""Facts of every row of every source: measured once, kept beside the shards, read by every later version."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from infinity import storage
from infinity.config import digest_of
from infinity.data import facts as facts_files
from infinity.data import quarantine as quarantine_files
from infinity.data.facts import MEASURE_VERSION, measure_slice
from infinity.data.manifest import SourceRecord
from infinity.data.shards import ShiftedSlice
from infinity.data.sources import URL_LIST, Slice, Source, fingerprint, open_source, scene_source
from infinity.jobs.fan_out import fan_out
from infinity.jobs.judging import JudgesConfig, MeasuredSlice, judge
from infinity.jobs.progress import Progress, ProgressSink, section

FACTS_FOLDER = "facts"
QUARANTINE_FOLDER = "quarantine"


class DatasetError(ValueError):
    """The source makes no data set: nothing is left of it, too much of it cannot be read, or it changed meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSource:
    """A source that is there and is what its record says.

    Attributes:
        record: What the manifest will say about it.
        source: Its slices.
    """

    record: SourceRecord
    source: Source

    def folder(self, max_pixels: int) -> str:
        """Name of the folder of its facts: it follows from everything that the facts follow from."""
        parts = [piece.first_row for piece in self.source.slices]
        return digest_of([self.record.replace(source=None).to_json(), MEASURE_VERSION, max_pixels, parts])


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """All rows of a data set's sources: slices with rows that are unique, and the facts by row."""

    slices: tuple[Slice, ...]
    facts: pa.Table

    def slices_of(self, rows: Sequence[int]) -> tuple[Slice, ...]:
        """The slices that hold these rows, in order."""
        first_rows = [piece.first_row for piece in self.slices]
        return tuple(self.slices[index] for index in sorted({bisect_right(first_rows, row) - 1 for row in rows}))


def open_record(record: SourceRecord, output: str, progress: ProgressSink) -> OpenedSource:
    """Open a source and see to it that it did not change; pictures of an address list are downloaded first.

    Args:
        record: The source.
        output: URI under which a download makes its folder.
        progress: Told about a download.

    Raises:
        SourceError: It is empty or of an unknown form.
        DatasetError: It changed.
        StorageError: It cannot be reached.
    """
    if record.source is None:
        assert record.scenes is not None
        return OpenedSource(record=record, source=scene_source(record.scenes))
    uri = record.source
    found = fingerprint(uri)
    if record.fingerprint and found != record.fingerprint:
        raise DatasetError(
            f"{record.source}: expected the fingerprint {record.fingerprint}, found {found}: the source changed since "
            "the job was planned; plan it again"
        )
    record = record.replace(fingerprint=found)
    source = open_source(uri, captions=record.captions, columns=record.columns)
    if source.kind == URL_LIST:
        source = open_source(_downloaded(record, output, progress), captions=record.captions)
    return OpenedSource(record=record, source=source)


def _downloaded(record: SourceRecord, output: str, progress: ProgressSink) -> str:
    """URI of the pictures of an address list."""
    from infinity.jobs import download  # it brings an HTTP client, which only lists of addresses need

    assert record.source is not None
    spec = download.DownloadSpec(
        output=output,
        source=record.source,
        fingerprint=record.fingerprint,
        columns=record.columns,
        download=record.download,
    )
    return download.run(spec, progress=progress).pictures


def gather(
    opened: Sequence[OpenedSource],
    max_pixels: int,
    root: str,
    progress: ProgressSink,
    judges: JudgesConfig | None = None,
) -> Rows:
    """The facts of all rows, measured on the cluster where they are not known; rows of a later source come later.

    Args:
        opened: The sources, in order.
        max_pixels: Larger pictures are unreadable.
        root: URI of the folder that all versions of the data set share.
        progress: Told after every slice.
        judges: Networks that score the pictures or write captions, or None.

    Raises:
        ValueError: A network cannot be loaded.
        WorkersError: No room for networks on the cluster, or workers that die.
        StorageError: A source cannot be read, or the facts not be written.
    """
    measuring = section(progress, 0.0, 0.5 if judges else 1.0)
    calls: list[tuple[Slice, int, str, str]] = []
    for each in opened:
        folder = each.folder(max_pixels)
        for piece in each.source.slices:
            name = f"{piece.first_row:012d}.parquet"
            where = [storage.join(root, kind, folder, name) for kind in (FACTS_FOLDER, QUARANTINE_FOLDER)]
            calls.append((piece, max_pixels, where[0], where[1]))
    kinds = " and ".join(dict.fromkeys(each.source.kind for each in opened))

    def on_done(done: int) -> None:
        measuring(Progress(done / len(calls), f"checked {done:,} of {len(calls):,} slices ({kinds})"))

    tables = fan_out(slice_facts, calls, on_done)
    if judges is not None:
        measured = [
            MeasuredSlice(call[0], table, storage.join(storage.name(storage.parent(call[2])), storage.name(call[2])))
            for call, table in zip(calls, tables, strict=True)
        ]
        tables = judge(measured, judges, root, section(progress, 0.5, 1.0))
    return _joined(opened, tables)


def slice_facts(piece: Slice, max_pixels: int, facts_uri: str, quarantine_uri: str) -> pa.Table:
    """The facts of one slice: read if they were measured before, else measured and kept.

    Raises:
        FactsError: What lies at ``facts_uri`` are no facts.
        StorageError: The slice cannot be read or the facts not be written.
    """
    try:
        return facts_files.from_bytes(storage.read_bytes(facts_uri), facts_uri)
    except storage.FileMissingError:
        measured = measure_slice(piece, max_pixels)
    if measured.quarantine.num_rows:
        storage.write_bytes(quarantine_uri, quarantine_files.to_bytes(measured.quarantine))
    try:  # The facts come last: where they are, the quarantine is complete.
        storage.write_bytes(facts_uri, facts_files.to_bytes(measured.facts), if_absent=True)
    except storage.FileAlreadyThereError:
        return facts_files.from_bytes(storage.read_bytes(facts_uri), facts_uri)
    return measured.facts


def _joined(opened: Sequence[OpenedSource], tables: Sequence[pa.Table]) -> Rows:
    """All facts in one table, rows of each source shifted behind those of the sources before."""
    slices: list[Slice] = []
    shifted: list[pa.Table] = []
    shift, position = 0, 0
    for each in opened:
        behind = shift
        for piece in each.source.slices:
            table = tables[position]
            position += 1
            if shift:
                rows = pa.array([row + shift for row in table["row"].to_pylist()], pa.int64())
                table = table.set_column(table.schema.get_field_index("row"), "row", rows)
            slices.append(ShiftedSlice(piece, shift) if shift else piece)
            shifted.append(table)
            behind = max(behind, piece.first_row + shift + 1, *(row + 1 for row in table["row"].to_pylist()[-1:]))
        shift = behind
    return Rows(slices=tuple(slices), facts=pa.concat_tables(shifted))
