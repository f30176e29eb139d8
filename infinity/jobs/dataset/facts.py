"""Facts of every row of every source: measured once, kept beside the shards, read by every later version."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity import storage
from infinity.config import digest_of
from infinity.data.curation import facts as facts_files
from infinity.data.curation.answers import Answers
from infinity.data.curation.facts import MEASURE_VERSION, READING_VERSION
from infinity.data.curation.measuring import MeasuringCall, measure
from infinity.data.curation.storing import REDUCE_VERSION, REDUCED, REDUCED_EXTENSION, StoringConfig, pictures_uri
from infinity.data.dataset.layout import Origin
from infinity.data.dataset.manifest_head import SourceRecord
from infinity.data.dataset.shards import ShiftedSlice
from infinity.data.dedup.near_duplicates import thumbnails_in
from infinity.data.dedup.thumbnail_store import Stretch, ThumbnailStore
from infinity.data.sources.opening import URL_LIST, Slice, Source, fingerprint, open_source, scene_source
from infinity.data.tables import TableStack, shifted
from infinity.jobs.cluster.fan_out import each_result
from infinity.jobs.dataset.scoring import CAPTIONS_FOLDER, SCORES_FOLDER, ScorersConfig, ask
from infinity.jobs.progress import Progress, ProgressSink, section

FACTS_FOLDER = "facts"
QUARANTINE_FOLDER = "quarantine"
REDUCED_FOLDER = "reduced"


class DatasetError(ValueError):
    """The source makes no data set: nothing is left of it, too much of it cannot be read, or it changed meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSource:
    """A source that is there and is what its record says."""

    record: SourceRecord
    source: Source

    def folder(self, max_pixels: int, side_px: int | None = None) -> str:
        """Return the name of the folder of its facts: it follows from everything that the facts follow from."""
        return digest_of(self._follows_from(max_pixels, side_px) + [{"reading": READING_VERSION}] * self._is_read)

    def earlier_folders(self, max_pixels: int, side_px: int | None = None) -> tuple[str, ...]:
        """Return the names of the folders that earlier readings gave to the facts, the newest first.

        What is drawn is read from nowhere, and its folder never changed.
        """
        if not self._is_read:
            return ()
        same = self._follows_from(max_pixels, side_px)
        numbered = [[{"reading": reading}] for reading in range(READING_VERSION - 1, 1, -1)]
        return tuple(digest_of(same + number) for number in (*numbered, []))  # the first reading had no number

    @property
    def _is_read(self) -> bool:
        return self.record.source is not None

    def _follows_from(self, max_pixels: int, side_px: int | None) -> list[Any]:
        parts = [piece.first_row for piece in self.source.slices]
        decoded: list[int | str] = [] if side_px is None else [side_px, REDUCE_VERSION]
        if self.source.variant:
            decoded.append(self.source.variant)
        return [self.record.replace(source=None).to_json(), MEASURE_VERSION, max_pixels, parts, *decoded]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTable:
    """All rows of a data set's sources, numbered through.

    Attributes:
        slices: Slices in order.
        facts: Facts by row, without thumbnails.
        files: URI of the facts of each slice, thumbnails included.
        shifts: Number that is added to the row numbers in the file of each slice.
        reduced: Rows whose pictures are stored in another size: columns of ``REDUCED``, and ``uri`` of their file.
    """

    slices: tuple[Slice, ...]
    facts: pa.Table
    files: tuple[str, ...]
    shifts: tuple[int, ...]
    reduced: pa.Table = field(default_factory=lambda: placed(REDUCED.empty_table(), "", 0))

    def without_facts(self) -> SourceTable:
        """Return the same rows with their places alone: all that is needed once it is decided which rows stay."""
        return replace(self, facts=self.facts.schema.empty_table())

    def slices_of(self, rows: Sequence[int]) -> tuple[Slice, ...]:
        """Return the slices that hold these rows, in order."""
        return tuple(self.slices[index] for index in self._holders(rows))

    def thumbnails(self) -> ThumbnailStore:
        """Return the thumbnails of all readable pictures, in a file of this machine.

        Raises:
            StorageError: The facts cannot be read.
        """
        return ThumbnailStore(self._stretches(range(len(self.files))))

    def thumbnails_of(self, rows: Sequence[int]) -> pa.Table:
        """Return columns ``row`` and ``thumbnail`` of some rows; only the slices that hold them are read.

        Raises:
            StorageError: The facts cannot be read.
        """
        wanted = pa.array(rows, pa.int64())
        found = [pa.table({"row": pa.array([], pa.int64()), "thumbnail": pa.array([], pa.binary())})]
        for index in self._holders(rows):
            table = self._with_thumbnails(index).cast(found[0].schema)
            found.append(table.filter(pc.is_in(table["row"], wanted)))
        return pa.concat_tables(found)

    def as_stored(self, kept: pa.Table) -> tuple[pa.Table, dict[int, Origin]]:
        """Return facts of pictures as they will be stored, and where those that are reduced lie already, by row."""
        if not self.reduced.num_rows:
            return kept, {}
        places = {row["row"]: row for row in self.reduced.to_pylist()}
        columns = ("width_px", "height_px", "num_bytes", "extension", "keep_bytes")
        rows = kept.select(["row", *columns]).to_pylist()
        for row in rows:
            if (place := places.get(row["row"])) is not None:
                row |= {name: place[name] for name in ("width_px", "height_px", "num_bytes")}
                row |= {"extension": REDUCED_EXTENSION, "keep_bytes": False}
        for name in columns:
            values = pa.array([row[name] for row in rows], kept.schema.field(name).type)
            kept = kept.set_column(kept.schema.get_field_index(name), name, values)
        wanted = {row["row"] for row in rows}
        return kept, {
            row: Origin(place["uri"], place["offset"], place["num_bytes"], place["sha256"])
            for row, place in places.items()
            if row in wanted
        }

    def _holders(self, rows: Sequence[int]) -> list[int]:
        first_rows = [piece.first_row for piece in self.slices]
        return sorted({bisect_right(first_rows, row) - 1 for row in rows})

    def _with_thumbnails(self, index: int) -> pa.Table:
        uri = self.files[index]
        table = facts_files.from_bytes(storage.read_bytes(uri), uri, ["row", "thumbnail"])
        return shifted(table.filter(pc.is_valid(table["thumbnail"])), self.shifts[index])

    def _stretches(self, indices: Sequence[int]) -> Iterator[Stretch]:
        for index in indices:
            table = self._with_thumbnails(index)
            numbers = table["row"].to_numpy()
            yield numbers, thumbnails_in(table)(np.arange(len(numbers)))


def open_record(record: SourceRecord, output: str, progress: ProgressSink, joins: bool = True) -> OpenedSource:
    """Open a source and see to it that it did not change; pictures of an address list are downloaded first.

    Args:
        output: URI under which a download makes its folder.
        joins: Whether rows of one table that name the same picture are one row with several captions.

    Raises:
        SourceError: The source is empty or of an unknown form.
        DatasetError: The source changed.
        StorageError: The source cannot be reached.
    """
    if record.source is None:
        assert record.scenes is not None
        return OpenedSource(record=record, source=scene_source(record.scenes))
    uri = record.source
    found = fingerprint(uri, record.roots)
    if record.fingerprint and found != record.fingerprint:
        raise DatasetError(
            f"{record.source}: expected the fingerprint {record.fingerprint}, found {found}: the source changed since "
            "the job was planned; plan it again"
        )
    record = record.replace(fingerprint=found)
    source = open_source(uri, captions=record.captions, columns=record.columns, roots=record.roots, joins=joins)
    if source.kind == URL_LIST:
        pictures = open_source(_downloaded(record, output, progress), captions=record.captions)
        source = replace(pictures, not_read=(*source.not_read, *pictures.not_read))
    return OpenedSource(record=record, source=source)


def _downloaded(record: SourceRecord, output: str, progress: ProgressSink) -> str:
    """Return the URI of the pictures of an address list."""
    from infinity.jobs.dataset import download  # it brings an HTTP client, which only lists of addresses need

    assert record.source is not None
    spec = download.DownloadSpec(
        output=output,
        source=record.source,
        fingerprint=record.fingerprint,
        columns=record.columns,
        download=record.download,
        roots=record.roots,
    )
    return download.run(spec, progress=progress).pictures


def gather(
    opened: Sequence[OpenedSource],
    max_pixels: int,
    root: str,
    progress: ProgressSink,
    judges: ScorersConfig | None = None,
    storing: StoringConfig = StoringConfig(),  # noqa: B008  # frozen
) -> SourceTable:
    """Return the facts of all rows in the order of the sources; unknown ones are measured on the cluster.

    Args:
        max_pixels: Larger pictures are unreadable.
        root: URI of the folder that all versions of the data set share.
        progress: Callback after every slice.
        judges: Networks that score the pictures or write captions, or None.
        storing: Settings by which pictures are reduced on the way.

    Raises:
        ValueError: A network cannot be loaded.
        WorkersError: No room for networks on the cluster, or workers that die.
        StorageError: A source cannot be read, or the facts not be written.
    """
    measuring = section(progress, 0.0, 0.5 if judges else 1.0)
    calls = measuring_calls(opened, max_pixels, root, storing)
    kinds = " and ".join(dict.fromkeys(each.source.kind for each in opened))

    checked = _Checked(len(calls), kinds, measuring)
    found = checked.each(each_result(measure, ((call,) for call in calls), checked.on_done))
    if judges is not None:
        found = _judged(calls, list(found), ask(asked(calls), judges, root, section(progress, 0.5, 1.0)))
    return _joined(opened, calls, found)


def measuring_calls(
    opened: Sequence[OpenedSource], max_pixels: int, root: str, storing: StoringConfig
) -> list[MeasuringCall]:
    """Return one call per slice of all sources, in order; see ``gather``."""
    calls: list[MeasuringCall] = []
    for each in opened:
        folder = each.folder(max_pixels, storing.side_px)
        reduced = f"{folder}-{storing.recipe}"
        earlier = _Earlier.of(root, folder, each.earlier_folders(max_pixels, storing.side_px))
        for piece in each.source.slices:
            name = f"{piece.first_row:012d}.parquet"
            calls.append(
                MeasuringCall(
                    piece=piece,
                    max_pixels=max_pixels,
                    facts=storage.join(root, FACTS_FOLDER, folder, name),
                    quarantine=storage.join(root, QUARANTINE_FOLDER, folder, name),
                    reduced=storage.join(root, REDUCED_FOLDER, reduced, name),
                    storing=storing,
                    earlier=earlier.facts(name),
                    answers=earlier.answers(name),
                )
            )
    return calls


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What an earlier reading left of a source.

    Attributes:
        folder: URI of the folder of its facts; empty for none.
        judged: URIs of folders of networks' answers to it, and of those to the facts of today.
    """

    folder: str = ""
    judged: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, root: str, now: str, folders: Sequence[str]) -> _Earlier:
        """Look for what lies below the root of a data set under the names of a folder of today and before."""
        before = next((name for name in folders if storage.exists(storage.join(root, FACTS_FOLDER, name))), None)
        if before is None:
            return cls()
        folder = storage.join(root, FACTS_FOLDER, before)
        places = (storage.join(root, name) for name in (SCORES_FOLDER, CAPTIONS_FOLDER))
        files = (uri for place in places for uri in storage.list_files(place))
        found = {storage.parent(uri) for uri in files if storage.name(storage.parent(uri)) == before}
        return cls(folder, tuple((uri, storage.join(storage.parent(uri), now)) for uri in sorted(found)))

    def facts(self, name: str) -> str:
        """Return the URI of the facts of a slice; empty for none."""
        return storage.join(self.folder, name) if self.folder else ""

    def answers(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return the URIs of the answers to a slice, before and today."""
        return tuple((storage.join(old, name), storage.join(new, name)) for old, new in self.judged)


class _Checked:
    """Counts of measured pictures, told as they come."""

    def __init__(self, num_slices: int, kinds: str, progress: ProgressSink) -> None:
        self._num_slices, self._kinds, self._progress = num_slices, kinds, progress
        self._started = time.monotonic()
        self._read = 0
        self._problems = Counter[str]()

    def on_done(self, done: int) -> None:
        """Tell how far it is; the counts are those of the slices that came before this one."""
        rate = self._read / max(time.monotonic() - self._started, 1e-3)
        told = [f"checked {done:,} of {self._num_slices:,} slices ({self._kinds})"]
        if self._read:
            told.append(f"{self._read:,} pictures, {rate:,.0f} a second")
        if self._problems:
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in self._problems.most_common(3))
            told.append(f"{self._problems.total():,} unreadable ({reasons})")
        self._progress(Progress(done / self._num_slices, "; ".join(told)))

    def each(self, found: Iterator[tuple[pa.Table, pa.Table]]) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield the same tables, counted."""
        for facts, reduced in found:
            self._read += facts.num_rows
            self._problems.update(facts["problem"].drop_null().to_pylist())
            yield facts, reduced


def asked(calls: Sequence[MeasuringCall]) -> list[tuple[Slice, str]]:
    """Return every slice with the URI of its facts."""
    return [(call.piece, call.facts) for call in calls]


def _judged(
    calls: Sequence[MeasuringCall], found: Sequence[tuple[pa.Table, pa.Table]], answers: Answers
) -> Iterator[tuple[pa.Table, pa.Table]]:
    for call, (table, reduced) in zip(calls, found, strict=True):
        yield answers.attach(table, call.facts), reduced


def _joined(
    opened: Sequence[OpenedSource], calls: Sequence[MeasuringCall], found: Iterator[tuple[pa.Table, pa.Table]]
) -> SourceTable:
    """Return all facts in one table, rows of each source shifted behind those of the sources before.

    Args:
        calls: One call per slice of all sources.
        found: Facts and reduced pictures of every slice; held for a few at a time.
    """
    slices: list[Slice] = []
    facts, reduced = TableStack(), TableStack()
    shifts: list[int] = []
    shift = 0
    for each in opened:
        behind = shift
        for piece in each.source.slices:
            measured, stored = next(found)
            table = shifted(measured, shift)
            facts.add(table)
            reduced.add(placed(stored, calls[len(slices)].reduced, shift))
            slices.append(ShiftedSlice(piece, shift) if shift else piece)
            shifts.append(shift)
            behind = max(behind, piece.first_row + shift + 1, *(row + 1 for row in table["row"][-1:].to_pylist()))
        shift = behind
    return SourceTable(
        slices=tuple(slices),
        facts=facts.whole(),
        files=tuple(call.facts for call in calls),
        shifts=tuple(shifts),
        reduced=reduced.whole(),
    )


def placed(reduced: pa.Table, uri: str, shift: int) -> pa.Table:
    """Return the places of a slice's reduced pictures with the URI of their file, by row of all sources."""
    files = pa.array([pictures_uri(uri)] * reduced.num_rows, pa.string())
    return shifted(reduced, shift).append_column("uri", files)
