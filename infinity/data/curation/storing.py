"""How pictures are stored: as they came, or reduced to the size that a training needs.

A reduced picture is made in the pass that decodes the original anyway, and put beside its facts: the pass that writes
shards copies it, and another set of filters decodes nothing. These files may be deleted at any time; what is missing
is made again, with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity import storage
from infinity.config import Config, digest_of
from infinity.data.images.decoding import Decoded, UnreadableError, decode
from infinity.data.images.resizing import shrink
from infinity.data.memory import capped_memory, slice_bytes
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Slice
from infinity.data.sources.samples import SourceError
from infinity.data.tables import parquet_bytes, table_of
from infinity.ranges import Range

REDUCED_EXTENSION = "jpg"

REDUCE_VERSION = 4
"""Changes whenever a picture would be reduced to other bytes; pictures of other versions are reduced again."""

REDUCED = pa.schema(
    [
        ("row", pa.int64()),
        ("offset", pa.int64()),  # in the file of pictures
        ("num_bytes", pa.int64()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("sha256", pa.string()),
    ]
)
"""Columns of the places of a slice's reduced pictures; pictures that are stored as they came have no row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoringConfig(Config):
    """What becomes of pictures that are larger than a training needs.

    Attributes:
        side_px: Longer pictures are reduced until their shorter side has this many pixels, and encoded as JPEG; None
            stores every picture as it came.
        quality: Quality of the reduced JPEGs, 1 to 100.
    """

    side_px: Annotated[int, Range(24)] | None = None
    quality: Annotated[int, Range(1, 100)] = 95

    @property
    def decoded_px(self) -> int | None:
        """Shorter side down to which a JPEG may be decoded at a fraction: with a margin, or its own scaling would show.

        At three times the size, what is stored of photographs is 40 dB and more from a reduction of the whole picture.
        """
        return None if self.side_px is None else 3 * self.side_px

    @property
    def recipe(self) -> str:
        """16 hexadecimal digits over everything that the bytes of a reduced picture follow from."""
        return digest_of([REDUCE_VERSION, self.to_json()])

    def reduces(self, width_px: int, height_px: int) -> bool:
        """Return whether a picture of this size is stored in a smaller one."""
        return self.side_px is not None and min(width_px, height_px) > self.side_px

    def size_of(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Return width and height as they are stored: the ratio stays, up to rounding."""
        if not self.reduces(width_px, height_px):
            return width_px, height_px
        assert self.side_px is not None
        shorter = min(width_px, height_px)
        width, height = ((side * self.side_px + shorter // 2) // shorter for side in (width_px, height_px))
        return width, height


def reduce_picture(picture: Decoded, config: StoringConfig) -> bytes:
    """Return a JPEG of a picture that ``config`` reduces, by a bicubic filter as wide as the reduction asks for."""
    small = shrink(picture.image, config.size_of(*picture.size), "bicubic", box=picture.box)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=config.quality)
    return buffer.getvalue()


def reduce_slice(piece: Slice, facts: pa.Table, writer: ReducedWriter, max_pixels: int) -> None:
    """Make the reduced pictures of a slice that was measured before.

    Args:
        writer: Writer that gets all readable pictures.
        max_pixels: Limit of the first pass: larger pictures are unreadable.

    Raises:
        SourceError: A picture is not what it was in the first pass.
        StorageError: The slice cannot be read.
    """
    readable = facts.filter(pc.is_null(facts["problem"]))
    known = dict(zip(readable["row"].to_pylist(), readable["content"].to_pylist(), strict=True))
    with capped_memory(slice_bytes(max_pixels)):
        for record in piece.read(frozenset(known)):
            try:
                data = fetch(record)
                if hashlib.sha256(data).digest() != known[record.row]:
                    raise SourceError(f"{record.name}: changed since it was measured; start again at rest")
                writer.add(record.row, decode(data, max_pixels, side_px=writer.config.decoded_px))
            except UnreadableError as error:
                raise SourceError(f"{record.name}: could be read at first, then no longer: {error.detail}") from error


class ReducedWriter:
    """The reduced pictures of one slice: a file of pictures, written as they come, then the table of their places.

    A context manager: where the block ends with an error, nothing of the slice stays.
    """

    def __init__(self, uri: str, config: StoringConfig) -> None:
        """Begin a slice.

        Args:
            uri: Place of the table, with the ending ``.parquet``; the pictures go beside the table.
            config: Settings by which pictures are reduced.
        """
        self._uri = uri
        self.config = config
        self._rows: list[dict[str, object]] = []
        self._file: BinaryIO | None = None
        self._offset = 0
        self._stack = ExitStack()

    def __enter__(self) -> ReducedWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, row: int, picture: Decoded) -> None:
        """Keep a picture if it is stored in another size than its own.

        Raises:
            StorageError: The picture cannot be written.
        """
        if not self.config.reduces(*picture.size):
            return
        data = reduce_picture(picture, self.config)
        width, height = self.config.size_of(*picture.size)
        if self._file is None:
            self._file = self._stack.enter_context(storage.create(pictures_uri(self._uri)))
        self._file.write(data)
        self._rows.append(
            {
                "row": row,
                "offset": self._offset,
                "num_bytes": len(data),
                "width_px": width,
                "height_px": height,
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
        self._offset += len(data)

    def save(self) -> pa.Table:
        """Put the pictures into their place, then the table, and return it.

        Raises:
            StorageError: The files cannot be written.
        """
        self._stack.close()
        table = table_of(self._rows, REDUCED)
        storage.write_bytes(self._uri, parquet_bytes(table))
        return table


def load_reduced(uri: str) -> pa.Table | None:
    """Return the places of a slice's reduced pictures; None where they were never made or are gone.

    Raises:
        StorageError: The place cannot be read.
    """
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(uri)))
        if table.num_rows and storage.size(pictures_uri(uri)) != sum(table["num_bytes"].to_pylist()):
            return None
    except (storage.FileMissingError, pa.ArrowInvalid):
        return None
    return table if table.schema.equals(REDUCED) else None


def pictures_uri(uri: str) -> str:
    """Return the place of the pictures that the table at ``uri`` describes."""
    return uri.removesuffix(".parquet") + ".pictures"
