"""Captioned pictures in Arrow files, as ``save_to_disk`` of Hugging Face ``datasets`` and its caches write them.

Both forms of Arrow's interprocess format are a sequence of messages; only their heads are read to find the batches. A
slice names the messages that it needs, and reads a batch in place where it lies on this machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from infinity import storage
from infinity.data.sources.columnar.rows import (
    ColumnarSlice,
    check_columns,
    class_names,
    needed_columns,
    picture_columns,
    row_of,
)
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.samples import CaptionChoice, SourceError
from infinity.storage.ranges import RangeReader

ENDINGS = (".arrow", ".feather")

MAX_BATCH_BYTES = 2**27
"""Larger batches are not read unless they can stay in a file of this machine: a worker would have to hold one."""

_MAGIC = b"ARROW1\0\0"
_CONTINUES = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_READ_BYTES = 2**16
_MAX_HEAD_BYTES = 2**24
_ROWS_PER_SLICE = 64


@dataclass(frozen=True, slots=True)
class Message:
    """A message of an Arrow file: its kind, where it begins, and its bytes with its body."""

    kind: int
    start: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class ArrowSlice(ColumnarSlice):
    """``num_rows`` rows of one batch, from its row ``skip`` on.

    Attributes:
        messages: Schema, dictionaries and the batch.
        skip: Rows of the batch before the slice.
        first_row: Number of its first row.
        captions: Choice of caption where there is a long and a short one.
    """

    uri: str
    messages: tuple[Message, ...]
    skip: int
    num_rows: int
    first_row: int
    captions: CaptionChoice
    columns: SourceColumns = field(default_factory=SourceColumns)

    def _rows(self) -> Iterator[dict[str, Any]]:
        batch = _batch(self.uri, self.messages)
        names, classes = needed_columns(batch.schema, self.columns), class_names(batch.schema)
        for index in range(self.skip, min(batch.num_rows, self.skip + self.num_rows)):
            yield row_of(batch, names, index, classes)


def arrow_slices(
    uri: str, first_row: int, captions: CaptionChoice, columns: SourceColumns
) -> tuple[list[ArrowSlice], int]:
    """Cut an Arrow file, of the stream or the file form, at its batches; and the row behind its last.

    Raises:
        SourceError: The file is no Arrow file, is damaged, or has no column for pictures or captions.
        StorageError: The file cannot be read.
    """
    slices: list[ArrowSlice] = []
    prelude: tuple[Message, ...] = ()
    row = first_row
    try:
        for message, length in _messages(uri):
            if message.kind != _BATCH:
                prelude = (*prelude, message)
                continue
            for skip in range(0, length, _ROWS_PER_SLICE):
                part = min(_ROWS_PER_SLICE, length - skip)
                slices.append(ArrowSlice(uri, (*prelude, message), skip, part, row, captions, columns))
                row += part
        check_columns(uri, _schema(uri, prelude), columns)
    except (pa.ArrowException, struct.error, IndexError, OSError) as error:
        if isinstance(error, storage.StorageError):
            raise
        raise SourceError(f"{uri}: expected an Arrow file ({error})") from error
    return slices, row


def holds_pictures(uri: str, columns: SourceColumns) -> bool:
    """Return whether an Arrow file has pictures or names of their files, and not addresses alone.

    Raises:
        StorageError: The file cannot be read.
    """
    if (schema := _first_schema(uri)) is None:
        return True  # whoever reads its rows says what is wrong
    return bool(picture_columns(uri, schema, columns)) or not columns.urls(schema.names)


def arrow_names(uri: str) -> list[str]:
    """Return the names of the columns of an Arrow file; none where it is damaged.

    Raises:
        StorageError: The file cannot be read.
    """
    schema = _first_schema(uri)
    return [] if schema is None else list(schema.names)


def _first_schema(uri: str) -> pa.Schema | None:
    try:
        return _schema(uri, tuple(message for message, _ in islice(_messages(uri), 1)))
    except (pa.ArrowException, struct.error, IndexError):
        return None


def _schema(uri: str, prelude: tuple[Message, ...]) -> pa.Schema:
    if not prelude or prelude[0].kind != _SCHEMA:
        raise pa.ArrowInvalid("no schema at its beginning")
    return pa.ipc.open_stream(_bytes_of(uri, prelude[:1])).schema


def _messages(uri: str) -> Iterator[tuple[Message, int]]:
    """Yield all messages and their rows, 0 for what is no batch; only their heads are read."""
    reader = RangeReader(uri, _READ_BYTES)
    start = 8 if reader.pread(0, 8) == _MAGIC else 0
    while start < reader.size:
        prefix = reader.pread(start, 8)
        if prefix[:4] != _CONTINUES:
            if start in (0, 8) or len(prefix) < 8:
                raise pa.ArrowInvalid("no message at its beginning")
            return
        (length,) = struct.unpack("<i", prefix[4:])
        if length == 0:  # the end mark; of the file form, a footer follows
            return
        if not 0 < length <= _MAX_HEAD_BYTES:
            raise pa.ArrowInvalid(f"a head of {length:,} bytes at offset {start:,}")
        kind, body, rows = _head(reader.pread(start + 8, length))
        end = start + 8 + length + body
        if body < 0 or end > reader.size:
            raise pa.ArrowInvalid(f"cut off: a message at offset {start:,} ends behind the file")
        yield Message(kind, start, end - start), rows if kind == _BATCH else 0
        start = end


def _head(head: bytes) -> tuple[int, int, int]:
    """Return kind, bytes of the body and number of rows from the flat buffer in front of a message's body."""
    (table,) = struct.unpack_from("<I", head, 0)
    kind = _field(head, table, 1, "<B") or 0
    body = _field(head, table, 3, "<q") or 0
    place = _place(head, table, 2)
    rows = 0
    if kind == _BATCH and place is not None:
        (offset,) = struct.unpack_from("<I", head, place)
        rows = _field(head, place + offset, 0, "<q") or 0
    return kind, body, rows


def _place(head: bytes, table: int, number: int) -> int | None:
    """Return where a field of a table lies in a flat buffer; None where it has its default."""
    (back,) = struct.unpack_from("<i", head, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", head, fields)
    if 4 + 2 * number >= size:
        return None
    (offset,) = struct.unpack_from("<H", head, fields + 4 + 2 * number)
    return table + offset if offset else None


def _field(head: bytes, table: int, number: int, kind: str) -> int | None:
    place = _place(head, table, number)
    return None if place is None else int(struct.unpack_from(kind, head, place)[0])


def _batch(uri: str, messages: tuple[Message, ...]) -> pa.RecordBatch:
    """Return one batch; where it needs no dictionary, in place in a file of this machine.

    Raises:
        MemoryError: The batch does not fit into a worker.
        ArrowInvalid: The batch is damaged.
    """
    path = storage.local_path(uri)
    if path is not None and len(messages) == 2:
        with pa.memory_map(str(path)) as file:
            file.seek(messages[-1].start)
            return pa.ipc.read_record_batch(file.read_buffer(messages[-1].num_bytes), _schema(uri, messages))
    return pa.ipc.open_stream(_bytes_of(uri, messages)).read_next_batch()


def _bytes_of(uri: str, messages: tuple[Message, ...]) -> pa.Buffer:
    if (size := sum(message.num_bytes for message in messages)) > MAX_BATCH_BYTES:
        raise MemoryError(f"a batch of {size:,} bytes, more than {MAX_BATCH_BYTES:,}; write smaller ones, or Parquet")
    parts = (storage.read_bytes(uri, start=each.start, length=each.num_bytes) for each in messages)
    return pa.py_buffer(b"".join(parts))
