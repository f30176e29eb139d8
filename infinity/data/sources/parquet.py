"""Captioned pictures in Parquet files: a column with the picture's bytes, its path or its url, and one with the text.

The column ``image`` may be a struct of ``bytes`` and ``path``, as data set hubs write it, or plain bytes; the columns
``bytes`` and ``path`` beside each other do as well. What the downloader wrote is read here too: rows that it could not
fetch have their reason in the file and become rows with a problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import HOW_TO_NAME, SourceColumns, is_address, place_of, shown
from infinity.data.sources.quarantine import is_quarantine
from infinity.data.sources.samples import CaptionChoice, Record, SourceError
from infinity.storage.ranges import RangeReader

FORMAT_COLUMNS = ("jpg", "jpeg", "png", "webp", "avif", "gif")
"""img2dataset names the column of the bytes after the format that it encodes to."""

SURE_COLUMNS = ("image", "bytes", "path", "file_name", "image_bytes", "img_bytes", "image_data", *FORMAT_COLUMNS)
PICTURE_COLUMNS = (*SURE_COLUMNS, "image_path", "filename", "file_path", "img", "picture")
DOWNLOADED = {b"infinity.kind": b"downloaded"}
"""Metadata of a file that the downloader wrote; the columns ``reason`` and ``detail`` say what could not be fetched."""

MAX_ROW_BYTES = 2**27
"""Rows that are larger on the average, unpacked, are not read: a page of a few of them would fill a worker."""

_ROWS_AT_ONCE = 16  # pictures in memory at the same time
_BYTES_AT_ONCE = 2**24  # fewer, where they are large
_READ_BYTES = 2**20
_SPLIT_ROWS = 1024  # a larger row group is dealt to several tasks, though each reads it from its beginning
_MAX_ROWS_PER_BYTE = 8  # a file that promises more rows is lying: tasks would be made for them


@dataclass(frozen=True, slots=True)
class ParquetSlice:
    """``num_rows`` rows of one row group, from its row ``skip`` on."""

    uri: str
    group: int
    skip: int
    num_rows: int
    first_row: int
    captions: CaptionChoice
    columns: SourceColumns = field(default_factory=SourceColumns)

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per row; rows that a damaged file does not give up are records with a problem."""
        end = self.first_row + self.num_rows
        row = self.first_row
        problem = UnreadableError("bad_file", "the file has fewer rows than it says")
        try:
            for values in self._rows():
                if wanted is None or row in wanted:
                    yield self._record(row, values)
                row += 1
        except storage.StorageError:
            raise
        except MemoryError as error:
            problem = UnreadableError("too_much_memory", f"the file's pages do not fit into memory ({error})")
        except (pa.ArrowException, OSError) as error:  # what damaged pages raise
            problem = UnreadableError("bad_file", f"the file is damaged: {error}")
        for rest in range(row, end):
            if wanted is None or rest in wanted:
                yield Record(row=rest, name=self._name(rest), problem=problem)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of every row of the slice; a cell that claims to be text and is not is an UnreadableError."""
        with _opened(self.uri) as file:
            names = _needed(file.schema_arrow, self.columns)
            group = file.metadata.row_group(self.group)
            if group.total_byte_size > MAX_ROW_BYTES * max(1, group.num_rows):
                raise MemoryError(f"{group.total_byte_size:,} bytes in {group.num_rows:,} rows")
            at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE * group.num_rows // max(1, group.total_byte_size)))
            position = 0
            for batch in file.iter_batches(at_once, row_groups=[self.group], columns=names, use_threads=False):
                for index in range(batch.num_rows):
                    if position >= self.skip + self.num_rows:
                        return
                    if position >= self.skip:
                        yield {name: _cell(batch, name, index) for name in names}
                    position += 1

    def _record(self, row: int, values: dict[str, Any]) -> Record:
        pictures = self.columns.pictures(values, PICTURE_COLUMNS, SURE_COLUMNS)
        data, path = _picture(values, pictures)
        urls = [values[name] for name in self.columns.urls(values)]
        url = next((value for value in urls if isinstance(value, str) and value), None)
        if data is None and isinstance(path, str) and is_address(path):
            path, url = None, url or path
        name = self._name(row) + (f" ({shown})" if isinstance(shown := path or url, str) else "")
        try:
            for value in values.values():
                if isinstance(value, UnreadableError):
                    raise value
            captions = self.columns.captions_of(values, self.captions)
            if values.get("reason"):
                raise UnreadableError(cast(Any, values["reason"]), str(values.get("detail") or ""))
            if data is None and not path and values.get("status") not in (None, "success"):
                told = f"{values['status']}: {values.get('error_message') or 'no picture'}"
                raise UnreadableError("not_accessible", f"its downloader says {told}"[:500])
            if data is None and not path and url is None:
                raise UnreadableError("bad_row", "holds neither bytes nor a path nor a url")
            image = self._image(data, path, url)
        except UnreadableError as error:
            texts = {column: value for column, value in values.items() if isinstance(value, str)}
            found = self.columns.captions_of(texts, self.captions)
            return Record(
                row=row,
                name=name,
                caption=found.caption,
                caption_long=found.caption_long,
                caption_short=found.caption_short,
                url=url,
                problem=error,
                raw=_spelled(values),
            )
        return Record(
            row=row,
            name=name,
            image=image,
            caption=captions.caption,
            caption_long=captions.caption_long,
            caption_short=captions.caption_short,
            url=url,
        )

    def _image(self, data: bytes | None, path: str | None, url: str | None) -> str | bytes:
        if data is not None:
            return data
        return place_of(storage.parent(self.uri), path) if path else str(url)

    def _name(self, row: int) -> str:
        return f"{storage.name(self.uri)} row {row}"


def parquet_slices(
    uri: str, first_row: int, captions: CaptionChoice, columns: SourceColumns
) -> tuple[list[ParquetSlice], int]:
    """Cut a Parquet file at its row groups; and the row behind its last.

    Raises:
        SourceError: The file is not Parquet, or has no column for pictures or captions.
        StorageError: The file cannot be read.
    """
    slices: list[ParquetSlice] = []
    row = first_row
    with _opened(uri) as file:
        _check_columns(uri, file.schema_arrow, columns)
        if file.metadata.num_rows > 1000 + _MAX_ROWS_PER_BYTE * storage.size(uri):
            raise SourceError(f"{uri}: promises {file.metadata.num_rows:,} rows in {storage.size(uri):,} bytes")
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            for skip in range(0, size, _SPLIT_ROWS):
                part = min(_SPLIT_ROWS, size - skip)
                slices.append(ParquetSlice(uri, group, skip, part, row, captions, columns))
                row += part
    return slices, row


def parquet_kind(uri: str, columns: SourceColumns) -> str:
    """ "quarantine", "Parquet" (it has pictures) or "URL list".

    Raises:
        SourceError: The file is not Parquet.
    """
    with _opened(uri) as file:
        schema = file.schema_arrow
    if is_quarantine(schema):
        return "quarantine"
    has_pictures = _picture_columns(uri, schema, columns)
    return "URL list" if columns.urls(schema.names) and not has_pictures else "Parquet"


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        source = pa.PythonFile(RangeReader(uri), mode="r")
        # Pages come one after the other: a whole row group of pictures may be larger than a worker's memory.
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_READ_BYTES)
    except storage.StorageError:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise SourceError(f"{uri}: expected a Parquet file ({error})") from error
    with file:
        yield file


def _needed(schema: pa.Schema, columns: SourceColumns) -> list[str]:
    names = schema.names
    wanted = {*_picture_columns("", schema, columns), *columns.urls(names)}
    wanted |= {*columns.longs(names), *columns.shorts(names), *({"status", "error_message"} & set(names))}
    if (schema.metadata or {}).get(b"infinity.kind") == DOWNLOADED[b"infinity.kind"]:
        wanted |= {"reason", "detail", "found"} & set(names)
    return [name for name in names if name in wanted]


def _check_columns(uri: str, schema: pa.Schema, columns: SourceColumns) -> None:
    names = schema.names
    found = shown(names)
    pictures, urls = _picture_columns(uri, schema, columns), columns.urls(names)
    captions = (*columns.longs(names), *columns.shorts(names))
    if not pictures and not urls:
        raise SourceError(
            f"{uri}: no pictures: expected a column image, bytes or path, or url, found {found}; {HOW_TO_NAME}"
        )
    if not captions:
        raise SourceError(
            f"{uri}: no captions at all: expected a column text, caption or long_caption, found {found}; {HOW_TO_NAME}"
        )
    for name in (*captions, *urls):
        kind = schema.field(name).type
        if not _is_text(kind) and not (name in captions and _is_list(kind) and _is_text(kind.value_type)):
            raise SourceError(f"{uri}: column {name}: expected texts, found {kind}")


def _picture_columns(uri: str, schema: pa.Schema, columns: SourceColumns) -> tuple[str, ...]:
    """Return columns that can hold pictures or their paths; those that are only guessed must be of such a type.

    Raises:
        SourceError: No column can hold pictures, though some have the name of one.
    """
    named = columns.pictures(schema.names, PICTURE_COLUMNS, SURE_COLUMNS)
    usable = tuple(name for name in named if _holds_pictures(name, schema.field(name).type))
    if named and not usable and not columns.urls(schema.names):
        kind = schema.field(named[0]).type
        raise SourceError(f"{uri}: column {named[0]}: expected bytes, paths or a struct of both, found {kind}")
    return usable


def _holds_pictures(name: str, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_pictures(name, kind.value_type)
    if any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        return True
    if _is_list(kind):
        return not _is_text(kind.value_type) and _holds_pictures(name, kind.value_type)
    return name.lower() not in FORMAT_COLUMNS and (_is_text(kind) or pa.types.is_struct(kind))


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _cell(batch: pa.RecordBatch, name: str, index: int) -> Any:
    try:
        return batch.column(name)[index].as_py()
    except UnicodeDecodeError as error:
        return UnreadableError("bad_row", f"column {name}: not UTF-8: {error.reason}")


def _picture(values: dict[str, Any], names: tuple[str, ...]) -> tuple[bytes | None, str | None]:
    """Return bytes and path of a row, from all columns that may hold one."""
    data: bytes | None = None
    path: str | None = None
    for name in names:
        value = values[name]
        if isinstance(value, list):  # several pictures of one row: its first
            value = value[0] if value else None
        for part in (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value,):
            if isinstance(part, bytes) and data is None:
                data = part
            elif isinstance(part, str) and part and path is None:
                path = part
    return data, path


def _spelled(values: dict[str, Any]) -> bytes:
    """Return a malformed row for people: its cells as text, without pictures."""
    shown = {name: value for name, value in values.items() if not isinstance(value, bytes | dict)}
    return str(shown).encode("utf-8", "backslashreplace")
