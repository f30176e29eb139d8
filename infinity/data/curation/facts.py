"""The first pass over a source: open every picture of a slice once, and remember what every later decision needs.

Facts do not depend on any threshold, so a data set with other filters is planned from them without opening a picture.
Pixels never leave this pass; one picture is in memory at a time.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity.data.curation.caption_cleaning import without_invisible
from infinity.data.curation.caption_scores import is_damaged
from infinity.data.curation.filters import clean_caption
from infinity.data.curation.storing import ReducedWriter
from infinity.data.images.decoding import Decoded, UnreadableError, decode
from infinity.data.images.fingerprint import THUMBNAIL_PX, measure_fingerprint
from infinity.data.images.stated_colours import reads_alike
from infinity.data.memory import capped_memory, slice_bytes
from infinity.data.sources.checking import fetch, printable
from infinity.data.sources.opening import Slice
from infinity.data.sources.quarantine import Quarantine
from infinity.data.sources.samples import Record
from infinity.data.tables import parquet_bytes, table_of

MEASURE_VERSION = 4
"""Changes whenever a fact of the same pixels would get another value; facts of other versions are measured again."""

READING_VERSION = 4
"""Changes whenever some files would be read as other pixels or rows. Facts of an earlier reading lie in a folder of
another name; from them is taken over what they say of files that every reading so far reads alike (``reads_alike``)."""

FACTS = pa.schema(
    [
        ("row", pa.int64()),
        ("name", pa.string()),
        ("url", pa.string()),  # null where the source gives none
        ("caption", pa.string()),  # cleaned, as all captions; empty where there is none
        ("caption_long", pa.string()),  # both null unless the source gives a long and a short one
        ("caption_short", pa.string()),
        ("further", pa.string()),  # further captions that may stand for ``caption``, as a JSON list; null for none
        ("problem", pa.string()),  # why it cannot be read; null for readable pictures
        (
            "detail",
            pa.string(),
        ),  # the same in words; of a readable picture what was done to it, or what it lacks, or null
        # Everything below is null where there is a problem.
        ("num_bytes", pa.int64()),  # of the file as it was read
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("extension", pa.string()),
        ("keep_bytes", pa.bool_()),  # whether the original file can be stored as it is
        ("content", pa.binary(32)),  # sha256 of the file as it was read
        ("pixels", pa.binary(32)),  # sha256 of size and pixels, as far as they are decoded
        ("phash", pa.uint64()),
        ("thumbnail", pa.binary(THUMBNAIL_PX * THUMBNAIL_PX * 3)),
        ("contrast", pa.float32()),
        ("sharpness", pa.float32()),
    ],
    metadata={b"infinity.kind": b"facts"},
)
"""Columns that are kept of every row of a source; scores of models are further columns."""

SMALL_FACTS = tuple(name for name in FACTS.names if name != "thumbnail")
"""All but the thumbnail, which is ten times the rest: what is held of all rows at once."""

CONVERTED = "colours converted from "
"""Prefix of the detail of a readable picture whose colours were not sRGB; the name of its profile follows."""

Row = dict[str, Any]
"""Cells of a row of facts."""

_OF_PIXELS = FACTS.names[FACTS.names.index("num_bytes") :]
_SURROGATES = re.compile("[\ud800-\udfff]")


class FactsError(ValueError):
    """A file does not hold facts of this version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceFacts:
    """Facts of one slice: a row of ``FACTS`` for every record, and the quarantine of what could not be used."""

    facts: pa.Table
    quarantine: pa.Table


def measure_slice(
    piece: Slice,
    max_pixels: int,
    reduced: ReducedWriter | None = None,
    earlier: Mapping[int, Row] = MappingProxyType({}),
) -> SliceFacts:
    """Open and measure every picture of a slice.

    Args:
        max_pixels: Larger pictures are unreadable; the header decides.
        reduced: Writer for reduced pictures; it gets every readable picture here, so that none is decoded twice.
        earlier: Facts of an earlier reading, by row.

    Raises:
        StorageError: A bucket that does not exist, refused credentials: the place is wrong, not a picture.
    """
    quarantine = Quarantine()
    with capped_memory(slice_bytes(max_pixels)):
        rows = [
            _measure(record, max_pixels, quarantine, reduced, earlier.get(record.row, {})) for record in piece.read()
        ]
    return SliceFacts(facts=table_of(rows, FACTS), quarantine=quarantine.table())


def measure_record(record: Record, data: bytes, picture: Decoded) -> Row:
    """Return the facts of one readable picture."""
    fingerprint = measure_fingerprint(picture.image)
    told = {"detail": CONVERTED + printable(picture.converted_from)} if picture.converted_from else {}
    return (
        _described(record)
        | told
        | {
            "num_bytes": len(data),
            "width_px": picture.size[0],
            "height_px": picture.size[1],
            "extension": picture.extension,
            "keep_bytes": picture.keep_bytes,
            "content": hashlib.sha256(data).digest(),
            "pixels": picture.pixels_sha256,
            "phash": fingerprint.phash,
            "thumbnail": fingerprint.thumbnail.tobytes(),
            "contrast": fingerprint.contrast,
            "sharpness": fingerprint.sharpness,
        }
    )


def to_bytes(facts: pa.Table) -> bytes:
    """Return a Parquet file of facts, the same bytes for the same rows."""
    notes = {**(facts.schema.metadata or {}), b"infinity.version": b"%d" % MEASURE_VERSION}
    return parquet_bytes(facts.replace_schema_metadata(notes))


def from_bytes(data: bytes, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what ``to_bytes`` wrote.

    Args:
        data: The whole file.
        where: Place of the file, for messages.
        columns: Columns to read; None for all.

    Raises:
        FactsError: The file holds no facts, or facts of another version.
    """
    try:
        with pq.ParquetFile(io.BytesIO(data)) as file:
            table = file.read(columns=None if columns is None else list(columns))
    except pa.ArrowInvalid as error:
        raise FactsError(f"{where}: expected a Parquet file of facts ({error}); delete it to measure again") from error
    found = (table.schema.metadata or {}).get(b"infinity.version", b"none").decode()
    if found != str(MEASURE_VERSION):
        raise FactsError(f"{where}: expected facts of version {MEASURE_VERSION}, found {found}; delete it")
    wanted = FACTS.names if columns is None else columns
    if "further" in wanted and "further" not in table.column_names:  # older facts, of pictures with one caption
        place = table.column_names.index("caption_short") + 1 if "caption_short" in table.column_names else 0
        table = table.add_column(place, FACTS.field("further"), pa.nulls(table.num_rows, pa.string()))
    return table


def _measure(
    record: Record, max_pixels: int, quarantine: Quarantine, reduced: ReducedWriter | None, earlier: Row
) -> Row:
    data = b""
    try:
        data = fetch(record)
        if reduced is None and _holds_for(earlier, data):
            return _described(record) | {name: earlier[name] for name in _OF_PIXELS}
        picture = decode(data, max_pixels, side_px=None if reduced is None else reduced.config.decoded_px)
    except UnreadableError as error:
        quarantine.add(record, error, data)
        return _described(record) | {"problem": error.reason, "detail": printable(error.detail)[:1000]}
    if reduced is not None:
        reduced.add(record.row, picture)
    return measure_record(record, data, picture)


def _holds_for(earlier: Row, data: bytes) -> bool:
    """Return whether what an earlier reading measured of a file is what this one would."""
    known = earlier.get("content")
    return known is not None and known == hashlib.sha256(data).digest() and reads_alike(data)


def _described(record: Record) -> Row:
    """Return what a row says of its picture; what it has in the place of captions is its detail."""
    return {
        "row": record.row,
        "name": printable(record.name),
        "url": None if record.url is None else printable(record.url),
        "caption": _writable_caption(record.caption),
        "caption_long": None if record.caption_long is None else _writable_caption(record.caption_long),
        "caption_short": None if record.caption_short is None else _writable_caption(record.caption_short),
        "further": _further(record),
        "detail": printable(record.found)[:1000] if record.found else None,
    }


def _further(record: Record) -> str | None:
    """Return the further captions that are whole and not blank, each once, as a JSON list; None for none."""
    texts = [without_invisible(_writable_caption(text)) for text in record.further]
    known = (without_invisible(_writable_caption(record.caption)), "")
    texts = [text for text in dict.fromkeys(texts) if text not in known and not is_damaged(text)]
    return json.dumps(texts, ensure_ascii=False) if texts else None


def _writable_caption(text: str | None) -> str:
    """Return a cleaned caption in which half a surrogate pair, which no file holds, is NUL: ``is_damaged`` finds it."""
    return _SURROGATES.sub("\0", clean_caption(text))
