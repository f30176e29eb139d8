"""The files of a source one by one: the kind of each, and its rows as slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self

from infinity import storage
from infinity.data.sources.columnar.arrow import ENDINGS as ARROW_ENDINGS
from infinity.data.sources.columnar.arrow import arrow_names, arrow_slices, holds_pictures
from infinity.data.sources.columnar.parquet import parquet_kind, parquet_names, parquet_slices
from infinity.data.sources.columns import HOW_TO_NAME, SourceColumns
from infinity.data.sources.fence import Slice
from infinity.data.sources.folders.file_names import is_picture
from infinity.data.sources.folders.folder_files import LINES, LISTS, first_fields, is_document, is_shard
from infinity.data.sources.quarantine import QuarantineSlice, num_quarantined
from infinity.data.sources.samples import CaptionChoice, SourceError
from infinity.data.sources.tables.caption_lists import list_form, list_rows
from infinity.data.sources.tables.documents import document_rows
from infinity.data.sources.tables.held_rows import held_slices
from infinity.data.sources.tables.joining import names_file
from infinity.data.sources.tables.lines import (
    csv_slices,
    has_header,
    holds_urls,
    lines_slices,
    read_header,
    without_captions,
)
from infinity.data.sources.tables.packed import held, is_packed_table, unpacked
from infinity.data.sources.webdataset import ROWS_PER_SHARD, shard_slices

URL_LIST = "URL list"
"""The kind of a source whose pictures must be downloaded first."""

_ROWS_ASKED = 16
"""Rows of a table of addresses that are asked whether a picture of the source has a name in them."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """Slices of one file, the row behind its last, and its kind."""

    slices: Sequence[Slice]
    num_rows: int
    kind: str


@dataclass(frozen=True, slots=True)
class FileForms:
    """Settings of cutting and reading the files of a source.

    Attributes:
        captions: Choice of caption where a row has a long and a short one.
        roots: Folders whose files may be named.
        joins: Whether rows of one table that name the same picture are one row with several captions.
        pictures: Names, without their folders, of the pictures that lie in the source; with and without their endings.
    """

    captions: CaptionChoice
    rows_per_slice: int
    columns: SourceColumns
    roots: tuple[str, ...] = ()
    joins: bool = True
    pictures: frozenset[str] = frozenset()

    def kind(self, uri: str) -> str:
        """Return the kind of a file that is a source itself; "unreadable" or "other" where it is none."""
        try:
            if is_packed_table(uri):
                with unpacked(uri) as path:
                    return self.kind(path)
            if uri.lower().endswith(".parquet"):
                kind = parquet_kind(uri, self.columns)
                return parquet_kind(uri, self._of_columns(uri).columns) if kind == URL_LIST else kind
            if uri.lower().endswith(".json") and not self._is_lines(uri) and document_rows(uri, self.columns) is None:
                return "other"
            return self.read(uri, 0).kind
        except (SourceError, storage.EntryError):
            return "unreadable"

    def read(self, uri: str, row: int) -> FileRows:
        """Return one file, its rows from ``row`` on.

        Raises:
            SourceError: The file cannot be read.
        """
        name = uri.lower()
        if is_shard(uri):
            if storage.is_inside_archive(uri):
                storage.read_bytes(uri, start=0, length=1)  # a shard that cannot be unpacked is one row, said here
            return FileRows(shard_slices((uri,), self.captions, self.columns, row), row + ROWS_PER_SHARD, "webdataset")
        if name.endswith((".parquet", *ARROW_ENDINGS)):
            found = self._columnar(uri, row)
            return self._of_columns(uri)._columnar(uri, row) if found.kind == URL_LIST else found
        lines, end, kind = self.table(uri, row)
        return FileRows(lines, end, URL_LIST if holds_urls(lines) else kind)

    def _columnar(self, uri: str, row: int) -> FileRows:
        if uri.lower().endswith(ARROW_ENDINGS):
            kind = "Arrow" if holds_pictures(uri, self.columns) else URL_LIST
            return FileRows(*arrow_slices(uri, row, self.captions, self.columns), kind)
        kind = parquet_kind(uri, self.columns)
        if kind == "quarantine":
            return FileRows([QuarantineSlice(uri, row)], row + num_quarantined(uri), kind)
        return FileRows(*parquet_slices(uri, row, self.captions, self.columns), kind)

    def _of_columns(self, uri: str) -> Self:
        """Return the settings of a Parquet or Arrow file of addresses."""
        names = arrow_names(uri) if uri.lower().endswith(ARROW_ENDINGS) else parquet_names(uri)
        return self._with_files(names, lambda how: how._columnar(uri, 0).slices)

    def _with_files(self, names: Iterable[str], read: Callable[[Self], Sequence[Slice]]) -> Self:
        """Return the settings of a table; beside addresses, a further column counts if it names pictures of the source.

        Args:
            names: Names of its columns.
            read: Function that returns its slices under other settings.
        """
        for name in self.columns.beside_addresses(names):
            other = replace(self, columns=self.columns.replace(picture=name))
            records = (record for piece in read(other)[:1] for record in islice(piece.read(), _ROWS_ASKED))
            if any(names_file(record) and self._is_here(str(record.image)) for record in records):
                return other
        return self

    def _is_here(self, picture: str) -> bool:
        if is_picture(picture) and storage.name(picture) in self.pictures:
            return True
        try:
            return storage.exists(picture)
        except storage.StorageError:  # no file can have this name
            return False

    def table(self, uri: str, row: int) -> tuple[Sequence[Slice], int, str]:
        """Return the slices of a table of text, the row behind its last, and its kind.

        Raises:
            SourceError: The table has no columns for pictures and captions, or is too large to be read at once.
        """
        pieces, end, kind = self._table(uri, row)
        if holds_urls(pieces) and (told := without_captions(pieces)):
            raise SourceError(f"{uri}: no captions at all: addresses, and {told}")
        return pieces, end, kind

    def _table(self, uri: str, row: int) -> tuple[Sequence[Slice], int, str]:
        if is_packed_table(uri):
            with unpacked(uri) as path:
                try:
                    pieces, end, kind = self._table(path, row)
                except SourceError as error:
                    raise SourceError(str(error).replace(path, uri)) from error
                return held(pieces, storage.parent(uri)), end, kind
        if (uri.lower().endswith(LINES) and not is_document(uri)) or self._is_lines(uri):
            how = self._with_files(first_fields(uri), lambda how: how._lines(uri, 0)[0])
            return *how._lines(uri, row), "JSON lines"
        if uri.lower().endswith((".json", *LINES)):
            rows = document_rows(uri, self.columns)
            if rows is None:
                raise SourceError(f"{uri}: expected an array of captioned pictures or COCO captions; {HOW_TO_NAME}")
            names = next((list(each) for each in rows if isinstance(each, dict)), [])
            how = self._with_files(names, lambda how: how._held(uri, rows[:_ROWS_ASKED], 0)[0])
            return *how._held(uri, rows, row), "JSON"
        is_list = uri.lower().endswith(LISTS) or not has_header(uri, self.columns)
        if is_list and (form := list_form(uri, self.columns, self.pictures)) is not None:
            return *self._held(uri, list_rows(uri, form), row), "list of captions"
        how = self._with_files(read_header(uri, self.columns)[0], lambda how: how._separated(uri, 0)[0])
        return *how._separated(uri, row), "CSV"

    def _lines(self, uri: str, row: int) -> tuple[Sequence[Slice], int]:
        return lines_slices(uri, row, self.captions, self.columns, self.rows_per_slice)

    def _separated(self, uri: str, row: int) -> tuple[Sequence[Slice], int]:
        return csv_slices(uri, row, self.captions, self.columns, self.rows_per_slice)

    def _is_lines(self, uri: str) -> bool:
        """Return whether a document holds JSON lines, as hubs name them too: its first line is a row."""
        fields = first_fields(uri) if uri.lower().endswith(".json") else {}
        named = (fields[name] for name in (*self.columns.pictures(fields), *self.columns.urls(fields)))
        return any(isinstance(value, str) for value in named)

    def _held(self, uri: str, rows: Sequence[object], first_row: int) -> tuple[Sequence[Slice], int]:
        return held_slices(uri, rows, first_row, self.captions, self.columns, self.rows_per_slice)
