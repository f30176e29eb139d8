"""From the files of a source to slices: every form that a folder holds is read, one after the other.

A folder may mix forms: tables that name pictures, shards, Parquet, pictures with captions beside them. All are read, in
this order: tables of pictures, shards, Parquet, CSV, pictures that nothing names, addresses. What cannot be read is a
row with a reason, so that rows read and rows that are named as not read are all rows that lie there.
"""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.caption_files import Captioned, CaptionFiles
from infinity.data.sources.columns import HOW_TO_NAME, SourceColumns, shown
from infinity.data.sources.fence import FencedSlice, OutsideLinks, Slice, fenced
from infinity.data.sources.file_names import FileNames, Renamed
from infinity.data.sources.lines import CsvSlice, LinesSlice, csv_slices, holds_urls, lines_slices
from infinity.data.sources.parquet import parquet_kind, parquet_slices
from infinity.data.sources.quarantine import QuarantineSlice, num_quarantined
from infinity.data.sources.samples import CaptionChoice, Record, SourceError
from infinity.data.sources.webdataset import ROWS_PER_SHARD, SHARD_ENDINGS, shard_slices

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
TABLES = (".jsonl", ".csv", ".tsv")
FILES = (*TABLES, ".parquet", *SHARD_ENDINGS)
"""Endings of files that are sources themselves."""

URL_LIST = "URL list"
"""The kind of a source whose pictures must be downloaded first."""

EXPECTED = (
    "expected an image folder with metadata.jsonl or metadata.csv (file_name and text), pictures with a .txt, .caption "
    "or .json of the same name beside them, a .jsonl file of the reference (image_path and long_caption or text), "
    ".parquet files (image or bytes, and text), webdataset shards (.tar), a list of addresses (.parquet, .csv or .tsv "
    "with url and text), or a folder of these"
)
_CHUNK_BYTES = 2**24
_MAX_LOOKED_THROUGH = 2**28

logger = logging.getLogger(__name__)


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
    """

    kind: str
    slices: tuple[Slice, ...]
    num_rows: int
    variant: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file of a source that cannot be read at all, while others can: one row with the problem."""

    uri: str
    first_row: int
    detail: str

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the one record of the file."""
        if wanted is None or self.first_row in wanted:
            problem = UnreadableError("bad_file", self.detail)
            yield Record(row=self.first_row, name=storage.name(self.uri), problem=problem, raw=self.uri.encode())


@dataclass(frozen=True, slots=True)
class FilesSlice:
    """Pictures of a folder that no table names."""

    uris: tuple[str, ...]
    names: tuple[str, ...]
    first_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per file."""
        for row, (uri, name) in enumerate(zip(self.uris, self.names, strict=True), start=self.first_row):
            if wanted is None or row in wanted:
                yield Record(row=row, name=name, image=uri)


@dataclass(frozen=True, slots=True)
class Opening:
    """Settings of cutting and reading a source."""

    captions: CaptionChoice
    rows_per_slice: int
    columns: SourceColumns
    roots: tuple[str, ...] = ()

    def file(self, uri: str) -> Source:
        """Return the rows of one file.

        Raises:
            SourceError: The source cannot be read, or has no rows.
        """
        found = self._read(uri, 0)
        return _source(uri, [found.kind], fenced(found.slices, self.roots), found.num_rows)

    def folder(self, uri: str, files: tuple[str, ...], outside: tuple[str, ...]) -> Source:
        """Return the rows of all files of a folder, and one for each link that leads out of it.

        Raises:
            SourceError: No file can be read, or nothing in it is known.
        """
        forms = Forms.of(files, self)
        reading = _Reading(self, uri, files)
        reading.tables(forms.tables)
        for group in (forms.shards, forms.parquet, forms.csv):
            reading.files(group)
        reading.pictures([file for file in files if is_picture(file)])
        reading.addresses(forms.addresses)
        return reading.source(outside)

    def kind(self, uri: str) -> str:
        """Return the kind of a file that is a source itself; "unreadable" where it is none."""
        try:
            if uri.lower().endswith(".parquet"):
                return parquet_kind(uri, self.columns)
            return self._read(uri, 0).kind
        except SourceError:
            return "unreadable"

    def _read(self, uri: str, row: int) -> _Found:
        """Return one file, its rows from ``row`` on."""
        if is_shard(uri):
            return _Found(shard_slices((uri,), self.captions, self.columns, row), row + ROWS_PER_SHARD, "webdataset")
        if uri.lower().endswith(".parquet"):
            kind = parquet_kind(uri, self.columns)
            if kind == "quarantine":
                return _Found([QuarantineSlice(uri, row)], row + num_quarantined(uri), kind)
            pieces, row = parquet_slices(uri, row, self.captions, self.columns)
            return _Found(pieces, row, kind)
        lines, row = self.table(uri, row)
        kind = "JSON lines" if uri.lower().endswith(".jsonl") else "CSV"
        return _Found(lines, row, URL_LIST if holds_urls(lines) else kind)

    def table(self, uri: str, row: int) -> tuple[Sequence[LinesSlice] | Sequence[CsvSlice], int]:
        """Return the slices of a table of text, and the row behind its last."""
        if uri.lower().endswith(".jsonl"):
            return lines_slices(uri, row, self.captions, self.columns, self.rows_per_slice)
        return csv_slices(uri, row, self.captions, self.columns, self.rows_per_slice)


@dataclass(frozen=True, slots=True)
class _Found:
    slices: Sequence[Slice]
    num_rows: int
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Forms:
    """The files of a folder by what they are; the order in each group is that of the files.

    Attributes:
        tables: ``metadata`` tables and JSON lines that name pictures.
        shards: Tar files.
        parquet: Parquet files with pictures, and those that cannot be read.
        csv: Other tables that name pictures.
        addresses: Lists of addresses.
    """

    tables: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    parquet: list[str] = field(default_factory=list)
    csv: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, files: tuple[str, ...], how: Opening) -> Forms:
        """Sort files; tables that a downloader leaves beside the pictures of the same rows are in no group."""
        forms = cls()
        metadata = _metadata(files)
        forms.tables.extend(metadata)
        beside = _beside(files)
        for file in files:
            name = file.lower()
            if storage.name(file).startswith(".") or file in metadata or storage.name(file) in METADATA_NAMES:
                continue
            if is_shard(file):
                forms.shards.append(file)
            elif name.endswith(".parquet"):
                is_list = how.kind(file) == URL_LIST
                (forms.addresses if is_list else forms.parquet).append(file)
            elif name.endswith(".jsonl"):
                fields = first_fields(file)
                if how.columns.pictures(fields) and not how.columns.urls(fields):
                    forms.tables.append(file)
                elif how.columns.pictures(fields) or how.columns.urls(fields):
                    is_list = how.kind(file) == URL_LIST
                    (forms.addresses if is_list else forms.tables).append(file)
            elif name.endswith((".csv", ".tsv")):
                is_list = how.kind(file) == URL_LIST
                (forms.addresses if is_list else forms.csv).append(file)
        skipped = [file for file in forms.addresses if file.rpartition(".")[0] in beside]
        if skipped:
            logger.info("%d tables beside pictures of the same rows are not read, as %s", len(skipped), skipped[0])
            forms.addresses[:] = [file for file in forms.addresses if file not in set(skipped)]
        return forms


class _Reading:
    """A folder as it is read, form by form.

    Args:
        how: Settings of the slices.
        uri: The folder.
        files: All its files.
    """

    def __init__(self, how: Opening, uri: str, files: tuple[str, ...]) -> None:
        self._how, self._uri, self._files = how, uri, files
        self._slices: list[Slice] = []
        self._row = 0
        self._kinds: list[str] = []
        self._errors: list[SourceError] = []
        self._named: set[str] = set()
        self._captions = CaptionFiles(files)
        self._variant = ""
        self._hint = ""

    def tables(self, tables: Sequence[str]) -> None:
        """Add the rows of tables that name pictures of the folder."""
        names = FileNames(self._files)
        for table in tables:
            try:
                found, self._row = self._how.table(table, self._row)
            except SourceError as error:
                self._broken(table, error)
                continue
            kind = "image folder" if storage.name(table) in METADATA_NAMES else "folder of JSON lines"
            self._kinds.append(kind)
            if table.lower().endswith(".jsonl"):
                self._hint = self._hint or f"{table} has {shown(first_fields(table))}; {HOW_TO_NAME}"
            for piece in fenced(found, self._how.roots):
                self._slices.append(self._matched(piece, names))

    def _matched(self, piece: Slice, names: FileNames) -> Slice:
        """Return a slice whose pictures have the names of files, and their captions where the table has none."""
        other: dict[str, str] = {}
        captions: dict[str, tuple[str, ...]] = {}
        for record in piece.read():
            if not isinstance(record.image, str) or not record.image or record.image == record.url:
                continue
            found = names.match(posixpath.normpath(record.image) if _is_local(record.image) else record.image)
            if posixpath.normpath(found) != posixpath.normpath(record.image):
                other[record.image] = found
            self._named.add(posixpath.normpath(found))
            if not (record.caption or "").strip() and (files := self._captions.of(found)):
                captions[found] = captions[record.image] = files
        if other:
            piece, self._variant = Renamed(piece, other), "names"
        return self._with_captions(piece, captions)

    def _with_captions(self, piece: Slice, captions: dict[str, tuple[str, ...]]) -> Slice:
        if not captions:
            return piece
        self._variant = "caption files"
        return Captioned(piece, captions, self._how.captions, self._how.columns)

    def files(self, files: Sequence[str]) -> None:
        """Add all rows of files that are sources themselves."""
        for file in files:
            try:
                found = self._how._read(file, self._row)
            except SourceError as error:
                self._broken(file, error)
                continue
            self._kinds.append(found.kind)
            self._row = found.num_rows
            pieces = fenced(found.slices, self._how.roots)
            self._slices += pieces
            if found.kind == "CSV" or (found.kind == "Parquet" and self._may_name(file)):
                images = (record.image for piece in pieces for record in piece.read())
                self._named.update(posixpath.normpath(image) for image in images if isinstance(image, str))

    def _may_name(self, file: str) -> bool:
        """Return whether to check which pictures a Parquet file names; large files hold pictures themselves."""
        return any(map(is_picture, self._files)) and storage.size(file) < _MAX_LOOKED_THROUGH

    def pictures(self, pictures: Sequence[str]) -> None:
        """Add the pictures that no table names, with captions that lie beside them."""
        rest = [file for file in pictures if posixpath.normpath(file) not in self._named]
        if not self._kinds and not any(map(self._captions.of, rest)):
            return  # a folder of pictures without any captions is no source
        if rest and not self._kinds:
            self._kinds.append("image folder")
        start = len(self._uri.rstrip("/")) + 1
        for first in range(0, len(rest), self._how.rows_per_slice):
            uris = tuple(rest[first : first + self._how.rows_per_slice])
            piece = FilesSlice(uris, tuple(uri[start:] for uri in uris), self._row + first)
            captions = {uri: files for uri in uris if (files := self._captions.of(uri))}
            self._slices.append(self._with_captions(FencedSlice(piece, self._how.roots), captions))
        self._row += len(rest)

    def addresses(self, lists: Sequence[str]) -> None:
        """Lists of addresses: downloaded where there is nothing else, else rows that name what was not read."""
        self.files(lists)

    def _broken(self, file: str, error: SourceError) -> None:
        self._errors.append(error)
        self._slices.append(BrokenFile(file, self._row, str(error)))
        self._row += 1

    def source(self, outside: tuple[str, ...]) -> Source:
        """Return all records that were read."""
        links = and_links(outside)
        if self._errors and not self._kinds:
            raise self._errors[0]
        if not self._kinds:
            raise SourceError(f"{self._uri}: {_what_is_missing(self._files)}{links}; {EXPECTED}")
        start = len(self._uri.rstrip("/")) + 1
        for first in range(0, len(outside), self._how.rows_per_slice):
            names = tuple(link[start:] for link in outside[first : first + self._how.rows_per_slice])
            self._slices.append(OutsideLinks(names, self._row + first))
        source = _source(self._uri, self._kinds, self._slices, self._row + len(outside))
        return replace(source, variant=self._variant, hint=self._hint)


def _source(uri: str, kinds: Sequence[str], slices: Sequence[Slice], num_rows: int) -> Source:
    if not slices:
        raise SourceError(f"{uri}: found no rows; {EXPECTED}")
    return Source(kind=" and ".join(dict.fromkeys(kinds)), slices=tuple(slices), num_rows=num_rows)


def _metadata(files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tables of an image folder; where a folder has both, the JSON lines."""
    both = {name: {storage.parent(file) for file in files if storage.name(file) == name} for name in METADATA_NAMES}
    csv_folders = both["metadata.csv"] - both["metadata.jsonl"]
    return tuple(
        file
        for file in files
        if storage.name(file) == "metadata.jsonl"
        or (storage.name(file) == "metadata.csv" and storage.parent(file) in csv_folders)
    )


def _beside(files: tuple[str, ...]) -> set[str]:
    """Return paths without ending that a downloader gives to its tables: those of its shards, and of its folders."""
    shards = {file[: len(file) - len(ending)] for file in files for ending in SHARD_ENDINGS if _ends(file, ending)}
    return shards | {storage.parent(file) for file in files}


def _ends(file: str, ending: str) -> bool:
    return file.lower().endswith(ending)


def first_fields(uri: str) -> dict[str, Any]:
    """Return the fields of the first line of a JSON-lines file; none if it is no object."""
    for line in storage.read_bytes(uri, start=0, length=_CHUNK_BYTES).split(b"\n"):
        if line.strip():
            try:
                fields = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except (ValueError, RecursionError):
                return {}
            return fields if isinstance(fields, dict) else {}
    return {}


def is_picture(uri: str) -> bool:
    """Return whether a file is a picture, by its name; hidden files, which some systems leave behind, are none."""
    return uri.lower().endswith(PICTURE_ENDINGS) and not storage.name(uri).startswith(".")


def is_shard(uri: str) -> bool:
    """Return whether a file is a shard, by its name."""
    return uri.lower().endswith(SHARD_ENDINGS)


def and_links(outside: tuple[str, ...]) -> str:
    """Return what to add to an error where links lead out of the source."""
    if not outside:
        return ""
    return f", and {len(outside)} links that lead out of it, for example {outside[0]} (allow their folder as a root)"


def _is_local(uri: str) -> bool:
    return "://" not in uri


def _what_is_missing(files: tuple[str, ...]) -> str:
    if pictures := sum(map(is_picture, files)):
        return (
            f"no captions at all: found {pictures} pictures but no {' or '.join(METADATA_NAMES)}, and no .txt, "
            ".caption or .json of their names"
        )
    tables = [file for file in files if file.lower().endswith(".jsonl")]
    if tables and (fields := first_fields(tables[0])):
        return f"{storage.name(tables[0])} names no picture: found {shown(fields)}; {HOW_TO_NAME}"
    return f"found {len(files)} files, but no pictures and no table of pictures, for example {storage.name(files[0])}"
