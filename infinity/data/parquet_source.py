"""Captioned pictures in Parquet files: a column with the picture's bytes (or its path), and one with the text.

The column ``image`` may be a struct of ``bytes`` and ``path``, as data set hubs write it, or plain bytes; the columns
``bytes`` and ``path`` beside each other do as well.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.data.decoding import UnreadableError
from infinity.data.samples import Record, SourceError

CAPTION_COLUMNS = {"long": ("long_caption", "text", "caption"), "short": ("text", "caption", "long_caption")}

_ROWS_AT_ONCE = 16  # pictures in memory at the same time
_SPLIT_ROWS = 1024  # a larger row group is dealt to several tasks, though each reads it from its beginning


@dataclass(frozen=True, slots=True)
class ParquetSlice:
    """``num_rows`` rows of one row group, from its row ``skip`` on."""

    uri: str
    group: int
    skip: int
    num_rows: int
    first_row: int
    captions: Literal["long", "short"]

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """One record a row."""
        with _opened(self.uri) as file:
            columns = file.schema_arrow.names
            captions = [name for name in CAPTION_COLUMNS[self.captions] if name in columns]
            images = [name for name in ("image", "bytes", "path") if name in columns]
            position = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[self.group], columns=images + captions):
                if position >= self.skip + self.num_rows:
                    return
                for index in range(batch.num_rows):
                    row = self.first_row + position + index - self.skip
                    inside = self.skip <= position + index < self.skip + self.num_rows
                    if inside and (wanted is None or row in wanted):
                        values = {name: batch.column(name)[index].as_py() for name in images + captions}
                        yield self._record(row, values, captions)
                position += batch.num_rows

    def _record(self, row: int, values: dict[str, Any], captions: list[str]) -> Record:
        cell = values.get("image")
        fields = cell if isinstance(cell, dict) else {"bytes": cell if cell is not None else values.get("bytes")}
        data, path = fields.get("bytes"), fields.get("path") or values.get("path")
        name = f"{storage.name(self.uri)} row {row}" + (f" ({path})" if path else "")
        caption = next((values[column] for column in captions if (values[column] or "").strip()), None)
        if data is not None:
            return Record(row=row, name=name, image=data, caption=caption)
        if path:
            return Record(row=row, name=name, image=resolve(storage.parent(self.uri), path), caption=caption)
        return Record(row=row, name=name, problem=UnreadableError("bad_row", "holds neither bytes nor a path"))


def parquet_slices(uris: tuple[str, ...], captions: Literal["long", "short"]) -> list[ParquetSlice]:
    """Cut Parquet files at their row groups.

    Raises:
        SourceError: Not a Parquet file, or without a column for pictures or captions.
        StorageError: A file cannot be read.
    """
    slices: list[ParquetSlice] = []
    row = 0
    for uri in uris:
        with _opened(uri) as file:
            _check_columns(uri, file.schema_arrow)
            for group in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                for skip in range(0, size, _SPLIT_ROWS):
                    part = min(_SPLIT_ROWS, size - skip)
                    slices.append(ParquetSlice(uri, group, skip, part, row, captions))
                    row += part
    return slices


def resolve(folder: str, name: str) -> str:
    """URI of a picture that a row names relative to ``folder``; absolute paths and URIs stay."""
    if "://" in name or name.startswith("/"):
        return name
    return storage.join(folder, name.removeprefix("./"))


class _RangeReader(io.RawIOBase):
    """A file that is read through storage, range by range, for what wants to seek in it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._size = storage.size(uri)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        data = storage.read_bytes(self._uri, start=self._position, length=size if size >= 0 else None)
        self._position += len(data)
        return data


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(pa.PythonFile(_RangeReader(uri), mode="r"), pre_buffer=True) as file:
            yield file
    except pa.ArrowInvalid as error:
        raise SourceError(f"{uri}: expected a Parquet file ({error})") from error


def _check_columns(uri: str, schema: pa.Schema) -> None:
    found = ", ".join(schema.names)
    if not any(name in schema.names for name in ("image", "bytes", "path")):
        raise SourceError(f"{uri}: no pictures: expected a column image, bytes or path, found {found}")
    captions = [name for name in CAPTION_COLUMNS["long"] if name in schema.names]
    if not captions:
        raise SourceError(f"{uri}: no captions at all: expected a column text, caption or long_caption, found {found}")
    for name in captions:
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise SourceError(f"{uri}: column {name}: expected texts, found {kind}")
