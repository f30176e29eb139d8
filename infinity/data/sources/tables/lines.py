"""Tables of text: JSON lines and CSV, one row a picture, which lies in a file of its own or on the web."""

from __future__ import annotations

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import HOW_TO_NAME, SourceColumns
from infinity.data.sources.encodings import not_utf8
from infinity.data.sources.fence import Slice
from infinity.data.sources.samples import CaptionChoice, Record, SourceError
from infinity.data.sources.tables.table_rows import MAX_ROW_BYTES, TextRow, cut, lines, quoted_rows

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = (",", "\t", ";")
_SEPARATOR = re.compile(rb"(?:\xef\xbb\xbf)?\"?sep=([,;|\t])\"?\s*$")  # how spreadsheets tell each other


@dataclass(frozen=True, slots=True)
class _TextSlice(ABC):
    """Rows of one file of text: ``length`` bytes from ``start``; pictures are named relative to ``folder``."""

    uri: str
    start: int
    length: int
    first_row: int
    folder: str
    captions: CaptionChoice
    columns: SourceColumns

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per row that is not blank."""
        for row, text in enumerate(self._rows(), start=self.first_row):
            if not text.is_blank and (wanted is None or row in wanted):
                yield self._record(row, f"{storage.name(self.uri)} row {row}", text)

    @abstractmethod
    def _rows(self) -> Iterator[TextRow]: ...

    @abstractmethod
    def _record(self, row: int, where: str, text: TextRow) -> Record: ...


@dataclass(frozen=True, slots=True)
class LinesSlice(_TextSlice):
    """Lines of one JSON-lines file."""

    def _rows(self) -> Iterator[TextRow]:
        return lines(self.uri, self.start, self.length)

    def _record(self, row: int, where: str, text: TextRow) -> Record:
        try:
            _check_length(text)
            fields = json.loads(text.content.removeprefix(_BOM).decode("utf-8"))
        except UnreadableError as error:
            return Record(row=row, name=where, problem=error, raw=text.content)
        except (ValueError, RecursionError) as error:
            told = not_utf8(error) if isinstance(error, UnicodeDecodeError) else f"not a line of JSON: {error}"
            problem = UnreadableError("bad_row", told)
            return Record(row=row, name=where, problem=problem, raw=text.content)
        if not isinstance(fields, dict):
            problem = UnreadableError("bad_row", f"expected an object, found {type(fields).__name__}")
            return Record(row=row, name=where, problem=problem, raw=text.content)
        return self.columns.record_of(
            fields, row=row, where=where, folder=self.folder, choice=self.captions, raw=text.content
        )


@dataclass(frozen=True, slots=True)
class CsvSlice(_TextSlice):
    """Rows of one CSV file with a header."""

    header: tuple[str, ...]
    delimiter: str

    def _rows(self) -> Iterator[TextRow]:
        return quoted_rows(self.uri, self.start, self.length, self.delimiter)

    def _record(self, row: int, where: str, text: TextRow) -> Record:
        try:
            _check_length(text)
            cells = _cells(text.content, self.delimiter)
            if len(cells) != len(self.header):
                advice = (
                    "; a cell that holds the separator needs quotes around it" if len(cells) > len(self.header) else ""
                )
                raise UnreadableError("bad_row", f"expected {len(self.header)} cells, found {len(cells)}{advice}")
        except UnreadableError as error:
            return Record(row=row, name=where, problem=error, raw=text.content)
        return self.columns.record_of(
            dict(zip(self.header, cells, strict=True)),
            row=row,
            where=where,
            folder=self.folder,
            choice=self.captions,
            raw=text.content,
        )


def lines_slices(
    uri: str, first_row: int, captions: CaptionChoice, columns: SourceColumns, rows_per_slice: int
) -> tuple[list[LinesSlice], int]:
    """Cut a JSON-lines file at line ends; and the row behind its last.

    Raises:
        StorageError: The file cannot be read.
    """
    spans, num_rows = cut(uri, lines, 0, rows_per_slice)
    folder = storage.parent(uri)
    slices = [
        LinesSlice(uri, span.start, span.num_bytes, first_row + span.row, folder, captions, columns) for span in spans
    ]
    return slices, first_row + num_rows


def csv_slices(
    uri: str, first_row: int, captions: CaptionChoice, columns: SourceColumns, rows_per_slice: int
) -> tuple[list[CsvSlice], int]:
    """Cut a CSV file (or with tabs, ``.tsv``) at row ends; and the row behind its last.

    Raises:
        SourceError: No header, or one that names no picture or no caption, or one of them twice.
        StorageError: The file cannot be read.
    """
    header, delimiter, start = read_header(uri, columns)
    used = [name for names in (columns.pictures, columns.urls, columns.shorts, columns.longs) for name in names(header)]
    if twice := next((name for name in used if header.count(name) > 1), None):
        raise SourceError(f"{uri}: the header names the column {twice!r} more than once; give each a name of its own")
    spans, num_rows = cut(uri, partial(quoted_rows, delimiters=delimiter), start, rows_per_slice)
    folder = storage.parent(uri)
    slices = [
        CsvSlice(uri, s.start, s.num_bytes, first_row + s.row, folder, captions, columns, header, delimiter)
        for s in spans
    ]
    return slices, first_row + num_rows


def read_header(uri: str, columns: SourceColumns) -> tuple[tuple[str, ...], str, int]:
    """Return names of the columns, the delimiter, and where the first row begins.

    Raises:
        SourceError: The file has no header, or its header name no picture or no caption.
    """
    rows = quoted_rows(uri, 0, None)
    first, start = next(rows, None), 0
    likely: tuple[str, ...] = ("\t", *_DELIMITERS) if uri.lower().endswith(".tsv") else _DELIMITERS
    if first is not None and (told := _SEPARATOR.match(first.content)):
        likely, start, first = (told[1].decode(), *likely), first.num_bytes, next(rows, None)
    if first is None or first.is_blank or not first.is_whole:
        raise SourceError(f"{uri}: expected a header with the names of the columns, found none")
    found: tuple[str, ...] = ()
    for delimiter in likely:
        try:
            cells = _cells(first.content.removeprefix(_BOM), delimiter)
        except UnreadableError as error:
            raise SourceError(f"{uri}: expected a header with the names of the columns ({error.detail})") from error
        found = tuple(cell.strip() for cell in cells)
        if (columns.pictures(found) or columns.urls(found)) and (columns.shorts(found) or columns.longs(found)):
            return found, delimiter, start + first.num_bytes
    raise SourceError(
        f"{uri}: expected columns for a picture (file_name or url) and for a caption (text or caption), found "
        f"{first.content[:200].decode('utf-8', 'replace').strip()}; {HOW_TO_NAME}"
    )


def has_header(uri: str, columns: SourceColumns) -> bool:
    """Return whether a table begins with the names of columns for a picture and a caption.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        read_header(uri, columns)
    except SourceError:
        return False
    return True


def holds_urls(slices: Sequence[Slice]) -> bool:
    """Return whether the first usable row names an address and no file."""
    for piece in slices[:1]:
        for record in piece.read():
            if record.problem is None:
                return record.url is not None and record.image == record.url
    return False


def without_captions(slices: Sequence[Slice]) -> str:
    """Return what the first rows have in the place of captions where none of them has a column for one; else ""."""
    records = [record for piece in slices[:1] for record in piece.read() if record.problem is None]
    found = [record.found for record in records if record.caption is None and record.found]
    return found[0] if found and len(found) == len(records) else ""


def _cells(content: bytes, delimiter: str) -> list[str]:
    try:
        text = content.decode("utf-8").rstrip("\r")
        try:
            return _parsed(text, delimiter)
        except csv.Error:
            if "\r" not in text:
                raise
            # Writers that end their rows with a line feed leave a carriage return in a field without quotes.
            return _parsed(text.replace("\r", " "), delimiter)
    except UnicodeDecodeError as error:
        raise UnreadableError("bad_row", not_utf8(error)) from error
    except csv.Error as error:
        raise UnreadableError("bad_row", f"not a row of CSV: {error}") from error


def _parsed(text: str, delimiter: str) -> list[str]:
    return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True), [])


def _check_length(row: TextRow) -> None:
    if not row.is_whole:
        raise UnreadableError("row_too_large", f"{row.num_bytes:,} bytes, more than {MAX_ROW_BYTES:,}")
