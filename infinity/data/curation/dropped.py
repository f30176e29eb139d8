"""The rows that a data set does not hold, each with its reason, beside the manifest; a few with a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image

from infinity import storage
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Slice

DROPPED_FILE = "dropped.parquet"
SHOWN = 24
"""Number of rows of each reason that keep their small picture."""

SIDE_PX = 112
"""Longer side of these pictures."""

_ENLARGED_PX = 96


@dataclass(frozen=True, slots=True, eq=False)
class DroppedRow:
    """One row that is left out.

    Attributes:
        name: Name of the picture in its source.
        detail: What was found, for example the score; may be empty.
        image: The picture, small; None where there is none.
    """

    name: str
    detail: str
    image: UInt8[np.ndarray, "H W 3"] | None


@dataclass(frozen=True, slots=True, eq=False)
class DroppedRows:
    """The rows that one rule left out.

    Attributes:
        reason: Slug of the rule; ``unreadable_<slug>`` for rows in quarantine.
        examples: First few rows.
    """

    reason: str
    number: int
    examples: tuple[DroppedRow, ...]


def load_dropped(manifest_uri: str, most: int = SHOWN) -> tuple[DroppedRows, ...] | None:
    """Return the dropped rows beside a manifest, by reason; None where a version was made without a look at its rows.

    Args:
        manifest_uri: URI of the manifest.
        most: Largest number of examples per reason.

    Raises:
        StorageError: The file of dropped rows cannot be read.
    """
    try:
        content = storage.read_bytes(storage.join(storage.parent(manifest_uri), DROPPED_FILE))
    except storage.FileMissingError:
        return None
    return tuple(_by_reason(pq.read_table(io.BytesIO(content)), most))


def _by_reason(dropped: pa.Table, most: int) -> Iterator[DroppedRows]:
    for reason in sorted(pc.unique(dropped["reason"]).to_pylist()):
        rows = dropped.filter(pc.equal(dropped["reason"], reason))
        examples = tuple(
            DroppedRow(row["name"], row["detail"] or "", _image(row.get("picture"), row["thumbnail"]))
            for row in rows.slice(0, min(most, SHOWN)).to_pylist()
        )
        yield DroppedRows(reason, rows.num_rows, examples)


def _image(picture: bytes | None, thumbnail: bytes | None) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return the picture itself, or the thumbnail of its facts, enlarged; None where it could not be read."""
    if picture is not None:
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    if thumbnail is None:
        return None
    side = round((len(thumbnail) / 3) ** 0.5)
    pixels = np.frombuffer(thumbnail, np.uint8).reshape(side, side, 3)
    return np.asarray(Image.fromarray(pixels).resize((_ENLARGED_PX, _ENLARGED_PX), Image.Resampling.NEAREST))


def shown_rows(dropped: pa.Table) -> list[int]:
    """Return the first few dropped rows of each reason."""
    shown: list[int] = []
    for reason in pc.unique(dropped["reason"]).to_pylist():
        shown += dropped.filter(pc.equal(dropped["reason"], reason))["row"].slice(0, SHOWN).to_pylist()
    return shown


def write_dropped(
    file: BinaryIO, tables: Iterable[pa.Table], thumbnails: pa.Table, pictures: Mapping[int, bytes]
) -> None:
    """Write a Parquet file of all dropped rows, from tables of which one is in memory at a time.

    Args:
        tables: ``row``, ``name``, ``reason`` and ``detail`` of all dropped rows; at least one table.
        thumbnails: ``row`` and ``thumbnail`` of rows that are shown, as far as they can be read.
        pictures: Files of some of these, by row, larger than a thumbnail.
    """
    small = dict(zip(thumbnails["row"].to_pylist(), thumbnails["thumbnail"].to_pylist(), strict=True))
    writer: pq.ParquetWriter | None = None
    for rows in tables:
        numbers = rows["row"].to_pylist()
        for name, values in (("thumbnail", small), ("picture", pictures)):
            rows = rows.append_column(name, pa.array([values.get(row) for row in numbers], pa.binary()))
        writer = writer or pq.ParquetWriter(file, rows.schema, compression="zstd", write_statistics=False)
        writer.write_table(rows)
    if writer is not None:
        writer.close()


def small_pictures(piece: Slice, wanted: Sequence[int], max_pixels: int) -> dict[int, bytes]:
    """Return JPEG files of some rows, at most ``SIDE_PX`` pixels per side; pictures that are gone are left out.

    Raises:
        StorageError: The slice cannot be read.
    """
    found = {}
    for record in piece.read(frozenset(wanted)):
        try:
            image = decode(fetch(record), max_pixels, side_px=SIDE_PX).image.copy()
        except UnreadableError:
            continue  # it only illustrates; that a source changes is found by those who store its pictures
        image.thumbnail((SIDE_PX, SIDE_PX))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        found[record.row] = buffer.getvalue()
    return found
