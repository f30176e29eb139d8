"""Rows of tables in columns (Parquet, Arrow): a column with the picture's bytes, its path or its url, and captions.

The column ``image`` may be a struct of ``bytes`` and ``path``, as data set hubs write it, or plain bytes; the columns
``bytes`` and ``path`` beside each other do as well. What the downloader wrote is read here too: rows that it could not
fetch have their reason in the file and become rows with a problem.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import (
    HOW_TO_NAME,
    TEXT_FIELDS,
    SourceColumns,
    is_address,
    place_of,
    several_pictures,
    shown,
)
from infinity.data.sources.inline_pictures import picture_in_text
from infinity.data.sources.samples import CaptionChoice, Record, SourceError

FORMAT_COLUMNS = ("jpg", "jpeg", "png", "webp", "avif", "gif")
"""img2dataset names the column of the bytes after the format that it encodes to."""

SURE_COLUMNS = ("image", "bytes", "path", "file_name", "image_bytes", "img_bytes", "image_data", *FORMAT_COLUMNS)
PICTURE_COLUMNS = (*SURE_COLUMNS, "image_path", "filename", "file_path", "img", "picture", "images")
_NAMES_ALONE = ("filepath", "image_file", "image_name", "img_path", "file")
"""Columns of names of files, which count where a table has none of the columns above."""

_MAX_NAME = 300
DOWNLOADED = {b"infinity.kind": b"downloaded"}
"""Metadata of a file that the downloader wrote; the columns ``reason`` and ``detail`` say what could not be fetched."""


class ColumnarSlice(ABC):
    """Rows of a file in columns; a row that a damaged file does not give up is a record with a problem."""

    __slots__ = ()

    uri: str
    num_rows: int
    first_row: int
    captions: CaptionChoice
    columns: SourceColumns

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per row."""
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

    @abstractmethod
    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of every row; a cell that claims to be text and is not is an UnreadableError."""

    def _record(self, row: int, values: dict[str, Any]) -> Record:
        values = dict(self.columns.opened(values))
        pictures = _named_pictures(self.columns, values)
        data, path = _picture(values, pictures)
        urls = [values[name] for name in self.columns.urls(values)]
        url = next((value for value in urls if isinstance(value, str) and value), None)
        if data is None and isinstance(path, str) and is_address(path):
            path, url = None, url or path
        name = self._name(row) + (f" ({shown[:_MAX_NAME]})" if isinstance(shown := path or url, str) else "")
        try:
            for value in values.values():
                if isinstance(value, UnreadableError):
                    raise value
            if told := next(filter(None, (several_pictures(values[name]) for name in pictures)), ""):
                raise UnreadableError("bad_row", told)
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
            return Record(row=row, name=name, url=url, problem=error, raw=_spelled(values), **found.fields)
        return Record(row=row, name=name, image=image, url=url, **captions.fields)

    def _image(self, data: bytes | None, path: str | None, url: str | None) -> str | bytes:
        if data is not None:
            return data
        return place_of(storage.parent(self.uri), path) if path else str(url)

    def _name(self, row: int) -> str:
        return f"{storage.name(self.uri)} row {row}"


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes that columns of numbers stand for, as Hugging Face ``datasets`` notes them."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"]
        classes = {name: each for name, each in features.items() if each.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, each["names"])) for name, each in classes.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def row_of(
    batch: pa.RecordBatch, names: Sequence[str], index: int, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Return the cells of a row; the number of a class is its name."""
    cells = {name: cell_of(batch, name, index) for name in names}
    for name in classes.keys() & cells.keys():
        number = cells[name]
        cells[name] = classes[name][number] if type(number) is int and 0 <= number < len(classes[name]) else None
    return cells


def needed_columns(schema: pa.Schema, columns: SourceColumns) -> list[str]:
    names = schema.names
    wanted = {*picture_columns("", schema, columns), *columns.urls(names)}
    wanted |= {*_caption_columns(schema, columns), *({"status", "error_message"} & set(names))}
    if (schema.metadata or {}).get(b"infinity.kind") == DOWNLOADED[b"infinity.kind"]:
        wanted |= {"reason", "detail", "found"} & set(names)
    return [name for name in names if name in wanted]


def check_columns(uri: str, schema: pa.Schema, columns: SourceColumns) -> None:
    names = schema.names
    found = shown(names)
    pictures, urls = picture_columns(uri, schema, columns), columns.urls(names)
    named = (*columns.longs(names), *columns.shorts(names))
    if not pictures and not urls:
        raise SourceError(
            f"{uri}: no pictures: expected a column image, bytes or path, or url, found {found}; {HOW_TO_NAME}"
        )
    if not named:
        raise SourceError(
            f"{uri}: no captions at all: expected a column text, caption or long_caption, found {found}; {HOW_TO_NAME}"
        )
    captions = _caption_columns(schema, columns)
    wrong = (*(() if captions else named), *(name for name in urls if not _is_text(schema.field(name).type)))
    if wrong:
        raise SourceError(f"{uri}: column {wrong[0]}: expected texts, found {schema.field(wrong[0]).type}")


def _caption_columns(schema: pa.Schema, columns: SourceColumns) -> tuple[str, ...]:
    """Return columns that can hold captions; a number called ``description`` is none."""
    named = (*columns.longs(schema.names), *columns.shorts(schema.names))
    classes = class_names(schema)
    return tuple(
        name
        for name in named
        if name in classes or _leads_within(columns, name) or _holds_captions(schema.field(name).type)
    )


def _leads_within(columns: SourceColumns, name: str) -> bool:
    """Return whether a name that a user gave leads into a column; each row says whether it arrives."""
    return any(
        chosen is not None and chosen.startswith(f"{name}.") for chosen in (columns.caption, columns.long_caption)
    )


def _holds_captions(kind: pa.DataType) -> bool:
    """Return whether a column holds captions: texts, structs with a text, or lists of these."""
    if pa.types.is_struct(kind):
        return any(field.name.lower() in TEXT_FIELDS and _holds_captions(field.type) for field in kind)
    return _is_text(kind) or (_is_list(kind) and _holds_captions(kind.value_type))


def picture_columns(uri: str, schema: pa.Schema, columns: SourceColumns) -> tuple[str, ...]:
    """Return columns that can hold pictures or their paths; those that are only guessed must be of such a type.

    Raises:
        SourceError: No column can hold pictures, though some have the name of one.
    """
    named = _named_pictures(columns, schema.names)
    usable = tuple(name for name in named if _holds_pictures(name, schema.field(name).type))
    if named and not usable and not columns.urls(schema.names):
        kind = schema.field(named[0]).type
        raise SourceError(f"{uri}: column {named[0]}: expected bytes, paths or a struct of both, found {kind}")
    return usable


def _named_pictures(columns: SourceColumns, names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    return columns.pictures(names, PICTURE_COLUMNS, SURE_COLUMNS) or columns.pictures(names, _NAMES_ALONE, ())


def _holds_pictures(name: str, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_pictures(name, kind.value_type)
    if any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        return True
    if _is_list(kind):
        return not _is_text(kind.value_type) and _holds_pictures(name, kind.value_type)
    if pa.types.is_struct(kind):
        return name.lower() not in FORMAT_COLUMNS or kind.get_field_index("bytes") >= 0
    return name.lower() not in FORMAT_COLUMNS and _is_text(kind)


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    views = (pa.types.is_list_view, pa.types.is_large_list_view)
    return any(test(kind) for test in (*tests, *views))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def cell_of(batch: pa.RecordBatch, name: str, index: int) -> Any:
    try:
        return batch.column(name)[index].as_py()
    except UnicodeDecodeError as error:
        return UnreadableError("bad_row", f"column {name}: not UTF-8: {error.reason}")
    except (ValueError, ArithmeticError, LookupError) as error:  # times beyond the calendar, or of no zone
        return UnreadableError("bad_row", f"column {name}: expected a value, found one that nothing can hold ({error})")


def _picture(values: dict[str, Any], names: tuple[str, ...]) -> tuple[bytes | None, str | None]:
    """Return bytes and path of a row, from all columns that may hold one."""
    data: bytes | None = None
    path: str | None = None
    for name in names:
        value = values[name]
        if isinstance(value, list):
            value = value[0] if value else None
        for part in (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value,):
            if isinstance(part, bytes) and data is None:
                data = part
            elif isinstance(part, str) and part and path is None:
                path = part
    if data is None and path is not None and (held := picture_in_text(path)) is not None:
        return held, None
    return data, path


def _spelled(values: dict[str, Any]) -> bytes:
    """Return a malformed row for people: its cells as text, without pictures."""
    shown = {name: value for name, value in values.items() if not isinstance(value, bytes | dict)}
    return str(shown).encode("utf-8", "backslashreplace")
