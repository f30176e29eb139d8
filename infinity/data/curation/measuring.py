"""One slice of a source on a worker: its facts, its quarantine and its reduced pictures, made once and then read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infinity import storage
from infinity.data.curation import facts as facts_files
from infinity.data.curation.facts import FACTS, SMALL_FACTS, FactsError, measure_slice
from infinity.data.curation.storing import REDUCED, ReducedWriter, StoringConfig, load_reduced, reduce_slice
from infinity.data.sources import quarantine as quarantine_files
from infinity.data.sources.opening import Slice
from infinity.data.tables import table_of

_ASKED = ["row", "pixels", "caption", "caption_long", "caption_short"]
"""What the answers of networks follow from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuringCall:
    """One slice to measure, and where its files go.

    Attributes:
        max_pixels: Larger pictures are unreadable.
        facts: URI of its facts.
        quarantine: URI of what cannot be used of it.
        reduced: URI of the places of its reduced pictures.
        storing: Settings by which pictures are reduced.
        earlier: URI of the facts that an earlier reading left of the slice; empty for none.
        answers: URIs of what networks said of that slice, and where the same goes if nothing in it has changed.
    """

    piece: Slice
    max_pixels: int
    facts: str
    quarantine: str
    reduced: str
    storing: StoringConfig
    earlier: str = ""
    answers: tuple[tuple[str, str], ...] = ()


def measure(call: MeasuringCall) -> tuple[pa.Table, pa.Table]:
    """Return the facts of one slice without thumbnails, and the places of its reduced pictures; what is there is read.

    Raises:
        FactsError: The file at the place of the facts holds something else.
        StorageError: The slice cannot be read, or a file cannot be written.
    """
    reduces = call.storing.side_px is not None
    reduced = load_reduced(call.reduced) if reduces else table_of([], REDUCED)
    try:
        facts = facts_files.from_bytes(storage.read_bytes(call.facts), call.facts, SMALL_FACTS)
    except storage.FileMissingError:
        return _measured(call)
    if reduced is None:
        with ReducedWriter(call.reduced, call.storing) as writer:
            reduce_slice(call.piece, facts, writer, call.max_pixels)
            reduced = writer.save()
    return facts, reduced


def measure_size(call: MeasuringCall) -> tuple[int, int, int]:
    """Measure a slice, and return its number of rows, its largest row number (-1 for none) and its unreadable rows."""
    facts, _ = measure(call)
    largest = max(facts["row"].to_pylist(), default=-1)
    return facts.num_rows, largest, facts.num_rows - facts["problem"].null_count


def _measured(call: MeasuringCall) -> tuple[pa.Table, pa.Table]:
    """Measure a slice. The facts are written last: where they are, the quarantine is complete."""
    reduced = table_of([], REDUCED)
    if call.storing.side_px is None:
        earlier = _earlier(call)
        known = {row["row"]: row for row in earlier.to_pylist()}
        measured = measure_slice(call.piece, call.max_pixels, earlier=known)
        if _says_the_same(measured.facts, earlier):
            _take_over(call.answers)
    else:
        with ReducedWriter(call.reduced, call.storing) as writer:
            measured = measure_slice(call.piece, call.max_pixels, writer)
            reduced = writer.save()
    if measured.quarantine.num_rows:
        storage.write_bytes(call.quarantine, quarantine_files.to_bytes(measured.quarantine))
    try:
        storage.write_bytes(call.facts, facts_files.to_bytes(measured.facts), if_absent=True)
    except storage.FileAlreadyThereError:
        return facts_files.from_bytes(storage.read_bytes(call.facts), call.facts, SMALL_FACTS), reduced
    return measured.facts.select(SMALL_FACTS), reduced


def _earlier(call: MeasuringCall) -> pa.Table:
    """Return the facts that an earlier reading left of a slice; none where there are none."""
    try:
        return (
            facts_files.from_bytes(storage.read_bytes(call.earlier), call.earlier)
            if call.earlier
            else FACTS.empty_table()
        )
    except (storage.FileMissingError, FactsError):
        return FACTS.empty_table()


def _says_the_same(facts: pa.Table, earlier: pa.Table) -> bool:
    """Return whether networks would be asked about the same pictures and captions."""
    asked = [each.filter(pc.is_null(each["problem"])).select(_ASKED) for each in (facts, earlier)]
    return bool(asked[0].equals(asked[1]))


def _take_over(answers: Sequence[tuple[str, str]]) -> None:
    for old, new in answers:
        try:
            storage.write_bytes(new, storage.read_bytes(old), if_absent=True)
        except (storage.FileMissingError, storage.FileAlreadyThereError):
            continue  # never asked, or taken over by another job meanwhile
