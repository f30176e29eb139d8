"""From the files of a source to slices: every form that a folder holds is read, one after the other.

A folder may mix forms: tables that name pictures, shards, Parquet, pictures with captions beside them. All are read, in
this order: tables of pictures, shards, Parquet, CSV, pictures that nothing names, addresses. What cannot be read is a
row with a reason, so that rows read and rows that are named as not read are all rows that lie there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from infinity import storage
from infinity.data.images.decoding import LFS_POINTER, is_lfs_pointer
from infinity.data.sources.archives import FolderContents, below
from infinity.data.sources.caption_files import Captioned, CaptionFiles
from infinity.data.sources.columnar.arrow import ENDINGS as ARROW_ENDINGS
from infinity.data.sources.columnar.arrow import arrow_names, arrow_slices, holds_pictures
from infinity.data.sources.columnar.parquet import parquet_kind, parquet_names, parquet_slices
from infinity.data.sources.columns import HOW_TO_NAME, SourceColumns, shown
from infinity.data.sources.fence import BrokenFile, FencedSlice, FilesSlice, OutsideLinks, Slice, fenced
from infinity.data.sources.file_names import FileNames, Renamed, is_picture
from infinity.data.sources.folder_files import (
    LINES,
    LISTS,
    METADATA_NAMES,
    FolderFiles,
    NotRead,
    first_fields,
    is_document,
    is_shard,
)
from infinity.data.sources.label_files import MASKS, masks_among
from infinity.data.sources.quarantine import QuarantineSlice, num_quarantined
from infinity.data.sources.samples import CaptionChoice, SourceError
from infinity.data.sources.tables.caption_lists import list_form, list_rows
from infinity.data.sources.tables.documents import document_rows
from infinity.data.sources.tables.held_rows import held_slices
from infinity.data.sources.tables.joining import RepeatedPictures, names_file
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

EXPECTED = (
    "expected an image folder with metadata.jsonl or metadata.csv (file_name and text), pictures with a .txt, .caption "
    "or .json of the same name beside them, a .jsonl file of the reference (image_path and long_caption or text), "
    "a .json document (an array, or COCO captions), .parquet or .arrow files (image or bytes, and text), webdataset "
    "shards (.tar), a list of addresses (.parquet, .csv or .tsv with url and text), or a folder or .zip of these"
)
_MAX_TOLD = 8
_MAX_LOOKED_THROUGH = 2**28
_NAMING = ("JSON lines", "JSON", "CSV", "list of captions")
"""Kinds of files whose rows name pictures."""

_COLUMNAR = ("Parquet", "Arrow")
_DOWNLOADED = "lists of addresses whose pictures were downloaded and lie beside them"
_FILES_ASKED = 4
"""Shards, tables and pictures that are asked whether a downloader wrote them."""

_ROWS_ASKED = 16
"""Rows of a table of addresses that are asked whether a picture of the source has a name in them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A recognised source.

    Attributes:
        kind: "image folder", "JSON lines", "CSV", "Parquet", "webdataset", "URL list", "quarantine", "drawn scenes", or
            several of these.
        slices: All rows, each in exactly one slice; rows of a later slice are larger.
        num_rows: Larger than every row.
        variant: Text for what the facts depend on besides the record; empty where that is nothing.
        hint: Advice for a source where no row has a caption; may be empty.
        not_read: Files and rows of a folder that are no rows of the source.
    """

    kind: str
    slices: tuple[Slice, ...]
    num_rows: int
    variant: str = ""
    hint: str = ""
    not_read: tuple[NotRead, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """Settings of cutting and reading a source.

    Attributes:
        captions: Choice of caption where a row has a long and a short one.
        roots: Folders whose files may be named.
        joins: Whether rows of one table that name the same picture are one row with several captions.
        pictures: Names, without their folders, of the pictures that lie in the source.
    """

    captions: CaptionChoice
    rows_per_slice: int
    columns: SourceColumns
    roots: tuple[str, ...] = ()
    joins: bool = True
    pictures: frozenset[str] = frozenset()

    def file(self, uri: str) -> Source:
        """Return the rows of one file.

        Raises:
            SourceError: The source cannot be read, or has no rows.
        """
        reading = _Reading(self, uri, ())
        return reading.alone(uri)

    def folder(self, uri: str, contents: FolderContents) -> Source:
        """Return the rows of all files of a folder, and one for each link that leads out of it.

        Raises:
            SourceError: No file can be read, or nothing in it is known.
        """
        how = replace(self, pictures=frozenset(storage.name(file) for file in contents.files if is_picture(file)))
        reading = _Reading(how, uri, contents.files)
        sorted_files = FolderFiles.of(contents.files, how.columns, how.kind, reading.captions)
        sorted_files.not_read.extend(contents.left_out)
        reading.broken_archives(contents.broken)
        reading.tables(sorted_files.tables)
        for group in (sorted_files.shards, sorted_files.columnar, sorted_files.lists):
            reading.files(group)
        reading.pictures(sorted_files.pictures)
        reading.addresses(sorted_files.addresses)
        return reading.source(contents.outside, sorted_files)

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

    def _of_columns(self, uri: str) -> Opening:
        """Return the settings of a Parquet or Arrow file of addresses."""
        names = arrow_names(uri) if uri.lower().endswith(ARROW_ENDINGS) else parquet_names(uri)
        return self._with_files(names, lambda how: how._columnar(uri, 0).slices)

    def _with_files(self, names: Iterable[str], read: Callable[[Opening], Sequence[Slice]]) -> Opening:
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
        if storage.name(picture) in self.pictures:
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
        if is_list and (form := list_form(uri, self.columns)) is not None:
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


@dataclass(frozen=True, slots=True)
class FileRows:
    """Slices of one file, the row behind its last, and its kind."""

    slices: Sequence[Slice]
    num_rows: int
    kind: str


class _Reading:
    """A folder as it is read, form by form.

    Args:
        how: Settings of the slices.
    """

    def __init__(self, how: Opening, uri: str, files: tuple[str, ...]) -> None:
        self._how, self._uri, self._files = how, uri, files
        self._slices: list[Slice] = []
        self._row = 0
        self._kinds: list[str] = []
        self._errors: list[SourceError | storage.EntryError] = []
        self._named: set[str] = set()
        self._first_slices: list[Slice] = []
        self._masks = masks_among(files)
        self._downloaded: list[str] = []
        self._unread_masks: list[str] = []
        self._without_captions: list[str] = []
        self.captions = CaptionFiles(file for file in files if file not in self._masks)
        self._names = FileNames(files)
        self._num_joined = 0
        self._variant = ""
        self._hint = ""

    def tables(self, tables: Sequence[str]) -> None:
        """Add the rows of tables that name pictures of the folder."""
        for table in tables:
            try:
                found, self._row, kind = self._how.table(table, self._row)
            except (SourceError, storage.EntryError) as error:
                self._broken(table, error)
                continue
            if kind == "JSON lines" and not is_packed_table(table):
                kind = "image folder" if storage.name(table) in METADATA_NAMES else "folder of JSON lines"
                self._hint = self._hint or f"{table} has {shown(first_fields(table))}; {HOW_TO_NAME}"
            self._kinds.append("image folder" if storage.name(table) in METADATA_NAMES else kind)
            self._slices += self._matched(table, found)

    def _matched(self, table: str, pieces: Sequence[Slice]) -> list[Slice]:
        """Return slices whose pictures have the names of files, and their captions where the table has none.

        Rows that name the same picture are one row with several captions.
        """
        some = (str(record.image) for piece in pieces[:1] for record in piece.read() if names_file(record))
        match = self._names.of_table(some, (storage.parent(table), self._how.roots[0]), storage.name(table))
        repeated = RepeatedPictures()
        matched = [self._matched_slice(piece, match, repeated) for piece in pieces]
        if not self._how.joins:
            return matched
        joined, number = repeated.join(matched, match)
        self._num_joined += number
        return joined

    def _matched_slice(self, piece: Slice, match: Callable[[str], str], repeated: RepeatedPictures) -> Slice:
        other: dict[str, str] = {}
        captions: dict[str, tuple[str, ...]] = {}
        for record in piece.read():
            if not names_file(record):
                continue
            image = str(record.image)
            found = match(image)
            if posixpath.normpath(found) != posixpath.normpath(image):
                other[image] = found
            self._named.add(posixpath.normpath(found))
            repeated.add(record, found)
            if not (record.caption or "").strip() and (files := self.captions.of(found)):
                captions[found] = captions[image] = files
        if other:
            piece, self._variant = Renamed(piece, other), "names"
        return self._with_captions(FencedSlice(piece, self._how.roots), captions)

    def _with_captions(self, piece: Slice, captions: dict[str, tuple[str, ...]]) -> Slice:
        if not captions:
            return piece
        self._variant = "caption files"
        return Captioned(piece, captions, self._how.captions, self._how.columns)

    def files(self, files: Sequence[str]) -> None:
        """Add all rows of files that are sources themselves."""
        for file in files:
            try:
                found = self._how.read(file, self._row)
            except (SourceError, storage.EntryError) as error:
                self._broken(file, error)
                continue
            self._kinds.append(found.kind)
            self._first_slices += found.slices[:1]
            self._row = found.num_rows
            is_naming = found.kind in _NAMING or (found.kind in _COLUMNAR and self._may_name(file))
            self._slices += self._matched(file, found.slices) if is_naming else fenced(found.slices, self._how.roots)

    def alone(self, file: str) -> Source:
        """Return the rows of one file that is the whole source."""
        try:
            found = self._how.read(file, 0)
        except SourceError:
            if _is_pointer(file):
                raise SourceError(f"{file}: {LFS_POINTER}") from None
            raise
        is_naming = found.kind in _NAMING
        pieces = self._matched(file, found.slices) if is_naming else fenced(found.slices, self._how.roots)
        source = _source(file, [found.kind], pieces, found.num_rows)
        return replace(source, variant=self._told_variant, not_read=self._joined_rows())

    @property
    def _told_variant(self) -> str:
        return " and ".join(filter(None, [self._variant, "joined rows" if self._num_joined else ""]))

    def _joined_rows(self) -> tuple[NotRead, ...]:
        why = "further captions in rows of their own, joined with the first row of their picture"
        return (NotRead(why=why, number=self._num_joined),) if self._num_joined else ()

    def _may_name(self, file: str) -> bool:
        """Return whether to check which pictures a Parquet file names; large files hold pictures themselves."""
        return any(map(is_picture, self._files)) and storage.size(file) < _MAX_LOOKED_THROUGH

    def pictures(self, pictures: Sequence[str]) -> None:
        """Add the pictures that no table names, with captions that lie beside them."""
        rest = [file for file in pictures if posixpath.normpath(file) not in self._named]
        self._unread_masks = [file for file in rest if file in self._masks]
        rest = [file for file in rest if file not in self._masks]
        if not self._kinds and not any(map(self.captions.of, rest)):
            self._without_captions = rest  # a folder of pictures without any captions is no source
            return
        if rest and not self._kinds:
            self._kinds.append("image folder")
        for first in range(0, len(rest), self._how.rows_per_slice):
            uris = tuple(rest[first : first + self._how.rows_per_slice])
            piece = FilesSlice(uris, tuple(below(self._uri, uri) for uri in uris), self._row + first)
            captions = {uri: files for uri in uris if (files := self.captions.of(uri))}
            self._slices.append(self._with_captions(FencedSlice(piece, self._how.roots), captions))
            self._first_slices += self._slices[-1:] if captions and not first else []
        self._row += len(rest)

    def addresses(self, lists: Sequence[str]) -> None:
        """Lists of addresses: downloaded where there is nothing else, else rows that name what was not read.

        Beside pictures that a downloader fetched they are its lists, whose rows would be counted twice.
        """
        if lists and any(map(_is_downloaded, self._first_slices[:_FILES_ASKED])):
            self._downloaded = list(lists)
        else:
            self.files(lists)

    def broken_archives(self, archives: Sequence[tuple[str, str]]) -> None:
        """Add one row for every archive that cannot be read."""
        for archive, error in archives:
            self._broken(archive, SourceError(error))

    def _broken(self, file: str, error: SourceError | storage.EntryError) -> None:
        if not isinstance(error, storage.EntryError) and _is_pointer(file):
            error = SourceError(f"{file}: {LFS_POINTER}")
        self._errors.append(error)
        self._slices.append(BrokenFile(file, self._row, str(error)))
        self._row += 1

    def source(self, outside: tuple[str, ...], sorted_files: FolderFiles) -> Source:
        """Return all records that were read, and what was not read."""
        links = and_links(outside)
        if self._errors and not self._kinds:
            raise self._errors[0]
        sorted_files.not_read.extend((mask, MASKS) for mask in self._unread_masks)
        sorted_files.not_read.extend((each, _DOWNLOADED) for each in self._downloaded)
        if self._kinds:
            why = "pictures without a caption beside a list of addresses"
            sorted_files.not_read.extend((file, why) for file in self._without_captions)
        not_read = sorted_files.unread(self._uri)
        if not self._kinds:
            found = sorted_files.what_is_missing(self._files)
            raise SourceError(f"{self._uri}: {found}{links}{_not_read_too(not_read)}; {EXPECTED}")
        not_read = (*self._joined_rows(), *not_read)
        for first in range(0, len(outside), self._how.rows_per_slice):
            names = tuple(below(self._uri, link) for link in outside[first : first + self._how.rows_per_slice])
            self._slices.append(OutsideLinks(names, self._row + first))
        source = _source(self._uri, self._kinds, self._slices, self._row + len(outside))
        return replace(source, variant=self._told_variant, hint=self._hint, not_read=not_read)


def _is_downloaded(piece: Slice) -> bool:
    """Return whether the first usable record of a slice is a picture that says at which address it was found."""
    first = next((record for record in piece.read() if record.problem is None), None)
    return first is not None and bool(first.url) and first.image != first.url


def _is_pointer(file: str) -> bool:
    try:
        return is_lfs_pointer(storage.read_bytes(file, start=0, length=64))
    except storage.StorageError:
        return False  # the first error says what is wrong


def _source(uri: str, kinds: Sequence[str], slices: Sequence[Slice], num_rows: int) -> Source:
    if not slices:
        raise SourceError(f"{uri}: found no rows; {EXPECTED}")
    return Source(kind=" and ".join(dict.fromkeys(kinds)), slices=tuple(slices), num_rows=num_rows)


def and_links(outside: tuple[str, ...]) -> str:
    """Return what to add to an error where links lead out of the source."""
    if not outside:
        return ""
    return f", and {len(outside)} links that lead out of it, for example {outside[0]} (allow their folder as a root)"


def _not_read_too(not_read: Sequence[NotRead]) -> str:
    told = "; ".join(str(each) for each in not_read[:_MAX_TOLD])
    more = f"; and {len(not_read) - _MAX_TOLD} further kinds" if len(not_read) > _MAX_TOLD else ""
    return f"; not read: {told}{more}" if told else ""
