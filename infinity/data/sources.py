"""Where captioned pictures come from: folders, tables, shards, lists of addresses, or drawn scenes.

``open_source`` recognises the form and cuts it into slices. A slice is small, says where its rows are and not what they
hold, and can be read alone on any machine: a job deals slices to workers, and no process ever holds the whole source.
"""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from infinity import storage
from infinity.config import digest_of
from infinity.data.columns import SourceColumns
from infinity.data.decoding import UnreadableError
from infinity.data.fence import FencedSlice, OutsideLinks, Slice, fenced
from infinity.data.lines_source import CsvSlice, LinesSlice, csv_slices, holds_urls, lines_slices
from infinity.data.parquet_source import parquet_kind, parquet_slices
from infinity.data.quarantine import QuarantineSlice, num_quarantined
from infinity.data.samples import CaptionChoice, Record, SourceError
from infinity.data.scenes import ScenesConfig, training_scene
from infinity.data.webdataset_source import ROWS_PER_SHARD, shard_slices

ROWS_PER_SLICE = 64
"""Small enough that progress moves and workers end together, large enough that a task is worth its overhead."""

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
TABLES = (".jsonl", ".csv", ".tsv")
FILES = (*TABLES, ".parquet", ".tar")
"""Endings of files that are sources themselves."""

URL_LIST = "URL list"
"""The kind of a source whose pictures must be downloaded first."""

EXPECTED = (
    "expected an image folder with metadata.jsonl or metadata.csv (file_name and text), a .jsonl file of the reference "
    "(image_path and long_caption or text), .parquet files (image or bytes, and text), webdataset shards (.tar), a "
    "list of addresses (.parquet, .csv or .tsv with url and text), or a folder of one of these"
)
_CHUNK_BYTES = 2**24
_BYTES_READ = 2**28
"""So much is read in about a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A recognised source.

    Attributes:
        kind: "image folder", "JSON lines", "CSV", "Parquet", "webdataset", "URL list", "quarantine", "drawn scenes".
        slices: All rows, each in exactly one slice; rows of a later slice are larger.
        num_rows: Larger than every row.
    """

    kind: str
    slices: tuple[Slice, ...]
    num_rows: int


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file of a source that cannot be read at all, while others can: one row with the problem."""

    uri: str
    first_row: int
    detail: str

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """The one record."""
        if wanted is None or self.first_row in wanted:
            problem = UnreadableError("bad_file", self.detail)
            yield Record(row=self.first_row, name=storage.name(self.uri), problem=problem, raw=self.uri.encode())


@dataclass(frozen=True, slots=True)
class FilesSlice:
    """Pictures of a folder that no metadata names: they have no caption."""

    uris: tuple[str, ...]
    names: tuple[str, ...]
    first_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """One record a file."""
        for row, (uri, name) in enumerate(zip(self.uris, self.names, strict=True), start=self.first_row):
            if wanted is None or row in wanted:
                yield Record(row=row, name=name, image=uri)


@dataclass(frozen=True, slots=True)
class ScenesSlice:
    """Scenes ``first_row`` to ``end_row`` of a drawn data set, as PNG."""

    config: ScenesConfig
    first_row: int
    end_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """One record a scene; drawing it again gives the same bytes."""
        for row in range(self.first_row, self.end_row):
            if wanted is None or row in wanted:
                scene = training_scene(self.config, row)
                buffer = io.BytesIO()
                Image.fromarray(scene.image).save(buffer, format="PNG", compress_level=6)
                yield Record(row=row, name=f"scene {row}", image=buffer.getvalue(), caption=scene.prompt.prompt)


def scene_source(config: ScenesConfig, rows_per_slice: int = ROWS_PER_SLICE) -> Source:
    """Drawn scenes, cut into slices that workers draw."""
    edges = [*range(0, config.count, rows_per_slice), config.count]
    slices = tuple(ScenesSlice(config, a, b) for a, b in pairwise(edges))
    return Source(kind="drawn scenes", slices=slices, num_rows=config.count)


def open_source(
    uri: str,
    *,
    captions: CaptionChoice = "long",
    rows_per_slice: int = ROWS_PER_SLICE,
    columns: SourceColumns | None = None,
    roots: tuple[str, ...] = (),
) -> Source:
    """Recognise a source and cut it into slices; pictures are not opened.

    Args:
        uri: A folder or a file, local or in S3.
        captions: Which caption is taken where a row has a long and a short one.
        rows_per_slice: Rows that one task handles; a shard is always one task.
        columns: Names of columns; None guesses.
        roots: Further folders whose files the source may name; all others must lie below the source, links resolved.

    Raises:
        SourceError: Nothing there, an unknown form, or no captions at all; the message says what is expected.
        StorageError: The place cannot be read.
    """
    uri = _plain(uri)
    how = _Opening(captions, rows_per_slice, columns or SourceColumns(), roots_of(uri, roots))
    if uri.endswith(FILES):
        _check_file(uri)
        return how.files((uri,), uri)
    infos, outside = storage.list_inside(uri, how.roots)
    files = tuple(info.uri for info in infos)
    if not files:
        raise SourceError(f"{uri}: found no files{_and_links(outside)}; {EXPECTED}")
    return how.with_links(_folder(how, uri, files, outside), uri, outside)


def roots_of(uri: str, further: tuple[str, ...]) -> tuple[str, ...]:
    """Where everything must lie that a source names: in its folder, or in one that the user allows besides."""
    return (storage.parent(uri) if uri.endswith(FILES) else uri, *map(_plain, further))


def _folder(how: _Opening, uri: str, files: tuple[str, ...], outside: tuple[str, ...]) -> Source:
    parquet, shards, lines, csv, tsv = (
        tuple(file for file in files if file.endswith(ending))
        for ending in (".parquet", ".tar", ".jsonl", ".csv", ".tsv")
    )
    if tables := _metadata(files) or tuple(file for file in lines if _names_pictures(file, how.columns)):
        return how.folder(uri, files, tables)
    # Downloaders leave a table of addresses beside each shard: the pictures are in the shards.
    if shards and not (parquet and how.kind(parquet[0]) == "Parquet"):
        return how.files(shards, uri)
    addresses = tuple(file for file in lines if _names_pictures(file, how.columns, urls=True))
    if found := parquet or addresses or csv or tsv:
        return how.files(found, uri)
    raise SourceError(f"{uri}: {_what_is_missing(files)}{_and_links(outside)}; {EXPECTED}")


def _and_links(outside: tuple[str, ...]) -> str:
    if not outside:
        return ""
    return f", and {len(outside)} links that lead out of it, for example {outside[0]} (allow their folder as a root)"


@dataclass(frozen=True, slots=True)
class _Opening:
    """How a source shall be cut and read."""

    captions: CaptionChoice
    rows_per_slice: int
    columns: SourceColumns
    roots: tuple[str, ...] = ()

    def with_links(self, source: Source, uri: str, outside: tuple[str, ...]) -> Source:
        """The source with a row for each link that leads out of it, behind all others."""
        if not outside:
            return source
        names = tuple(link[len(uri.rstrip("/")) + 1 :] for link in outside)
        slices = list(source.slices)
        for start in range(0, len(names), self.rows_per_slice):
            slices.append(OutsideLinks(names[start : start + self.rows_per_slice], source.num_rows + start))
        return Source(kind=source.kind, slices=tuple(slices), num_rows=source.num_rows + len(names))

    def files(self, files: tuple[str, ...], uri: str) -> Source:
        """All rows of some files of one kind; one that cannot be read is a row with a problem if others can."""
        slices: list[Slice] = []
        errors: list[SourceError] = []
        row, kind = 0, ""
        for file in files:
            try:
                found, row, of_kind = self._file(file, row)
                kind = kind or of_kind
            except SourceError as error:
                errors.append(error)
                found, row = [BrokenFile(file, row, str(error))], row + 1
            slices += found
        if errors and len(errors) == len(files):
            raise errors[0]
        if not slices:
            raise SourceError(f"{uri}: found no rows; {EXPECTED}")
        return Source(kind=kind, slices=fenced(slices, self.roots), num_rows=row)

    def kind(self, uri: str) -> str:
        """The kind of a Parquet file; "unreadable" if it is none."""
        try:
            return parquet_kind(uri, self.columns)
        except SourceError:
            return "unreadable"

    def _file(self, uri: str, row: int) -> tuple[Sequence[Slice], int, str]:
        """Slices of one file, the row behind its last, and its kind."""
        if uri.endswith(".tar"):
            shards = shard_slices((uri,), self.captions, self.columns, row)
            return shards, row + ROWS_PER_SHARD, "webdataset"
        if uri.endswith(".parquet"):
            kind = parquet_kind(uri, self.columns)
            if kind == "quarantine":
                return [QuarantineSlice(uri, row)], row + num_quarantined(uri), kind
            pieces, row = parquet_slices(uri, row, self.captions, self.columns)
            return pieces, row, kind
        lines, row = self.table(uri, row)
        kind = "JSON lines" if uri.endswith(".jsonl") else "CSV"
        return lines, row, URL_LIST if holds_urls(lines) else kind

    def table(self, uri: str, row: int) -> tuple[Sequence[LinesSlice] | Sequence[CsvSlice], int]:
        if uri.endswith(".jsonl"):
            return lines_slices(uri, row, self.captions, self.columns, self.rows_per_slice)
        return csv_slices(uri, row, self.captions, self.columns, self.rows_per_slice)

    def folder(self, uri: str, files: tuple[str, ...], tables: tuple[str, ...]) -> Source:
        """The rows of all tables, then the pictures that none of them names."""
        slices: list[Slice] = []
        named: set[str] = set()
        row = 0
        for table in tables:
            found, row = self.table(table, row)
            lines = fenced(found, self.roots)
            slices += lines
            named.update(
                posixpath.normpath(str(record.image)) for piece in lines for record in piece.read() if record.image
            )
        rest = [file for file in files if _is_picture(file) and posixpath.normpath(file) not in named]
        for start in range(0, len(rest), self.rows_per_slice):
            uris = tuple(rest[start : start + self.rows_per_slice])
            names = tuple(file[len(uri.rstrip("/")) + 1 :] for file in uris)
            slices.append(FencedSlice(FilesSlice(uris, names, row + start), self.roots))
        kind = "image folder" if storage.name(tables[0]) in METADATA_NAMES else "folder of JSON lines"
        return Source(kind=kind, slices=tuple(slices), num_rows=row + len(rest))


def _metadata(files: tuple[str, ...]) -> tuple[str, ...]:
    """The tables of an image folder; where a folder has both, the JSON lines."""
    both = {name: {storage.parent(file) for file in files if storage.name(file) == name} for name in METADATA_NAMES}
    csv_folders = both["metadata.csv"] - both["metadata.jsonl"]
    return tuple(
        file
        for file in files
        if storage.name(file) == "metadata.jsonl"
        or (storage.name(file) == "metadata.csv" and storage.parent(file) in csv_folders)
    )


def fingerprint(uri: str, roots: tuple[str, ...] = ()) -> str:
    """16 hexadecimal digits that change when the source does: names of its files, and what tells contents apart.

    That is the bytes themselves where all files together are small: a copy, such as a fresh checkout, is the same
    source. Of more, sizes and times of change, which ``cp -a`` and ``rsync -a`` keep; in S3, sizes and versions. Of a
    table on this machine the pictures that it names count too; of one in S3 only the file itself. Of links that lead
    out of the source and the further ``roots``, only the names.

    Raises:
        SourceError: Nothing there.
        StorageError: The place cannot be listed.
    """
    uri = _plain(uri)
    roots = roots_of(uri, roots)
    if uri.endswith(FILES):
        _check_file(uri)
        named: list[_Seen] = []
        if uri.endswith(TABLES) and storage.local_path(uri) is not None:
            for piece in fenced(_table_or_nothing(uri), roots):
                found = [(record.name, str(record.image)) for record in piece.read() if not record.problem]
                named += [_Seen(name, image, *_version(image)) for name, image in found]
        return digest_of([storage.sha256(uri), *_contents(named)])
    details, links = storage.list_inside(uri, roots)
    if not details and not links:
        raise SourceError(f"{uri}: found no files; {EXPECTED}")
    seen = [_Seen(info.uri[len(uri) :], info.uri, info.num_bytes, info.version) for info in details]
    outside = [[link[len(uri) :]] for link in links]
    if storage.local_path(uri) is None:
        return digest_of([file.without_content for file in seen])
    return digest_of([*_contents(seen), *outside])


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as a listing shows it; -1 bytes where there is none."""

    name: str
    uri: str
    num_bytes: int
    version: str

    @property
    def without_content(self) -> list[Any]:
        return [self.name, self.num_bytes, self.version]


def _contents(files: Sequence[_Seen]) -> list[list[Any]]:
    """Files of this machine by their bytes; by sizes and versions where those would take long to read."""
    if sum(max(file.num_bytes, 0) for file in files) > _BYTES_READ:
        return [file.without_content for file in files]
    known: dict[str, list[Any]] = {}
    for file in files:
        if file.uri not in known:
            try:
                known[file.uri] = [storage.sha256(file.uri) if file.num_bytes >= 0 else None]
            except storage.StorageError:  # what cannot be read is a row's problem, not the source's
                known[file.uri] = [file.num_bytes, file.version]
    return [[file.name, *known[file.uri]] for file in files]


def _table_or_nothing(uri: str) -> Sequence[Slice]:
    """The slices of a table; none where its columns need names that only the settings know."""
    try:
        return _Opening("long", ROWS_PER_SLICE, SourceColumns()).table(uri, 0)[0]
    except SourceError:
        return ()


def _names_pictures(uri: str, columns: SourceColumns, *, urls: bool = False) -> bool:
    """Whether the first line of a JSON-lines file has one of the fields that name a picture, or its address."""
    for line in storage.read_bytes(uri, start=0, length=_CHUNK_BYTES).split(b"\n"):
        if line.strip():
            try:
                fields = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except (ValueError, RecursionError):
                return False
            return isinstance(fields, dict) and bool(columns.urls(fields) if urls else columns.pictures(fields))
    return False


def _is_picture(uri: str) -> bool:
    """By its name; hidden files, which some systems strew about, are nobody's pictures."""
    return uri.lower().endswith(PICTURE_ENDINGS) and not storage.name(uri).startswith(".")


def _plain(uri: str) -> str:
    """A path for file://..., so that names in tables can be joined to it without quoting."""
    path = storage.local_path(uri)
    return uri if path is None else str(path)


def _check_file(uri: str) -> None:
    if not storage.exists(uri):
        raise SourceError(f"{uri}: there is no such file; {EXPECTED}")


def _version(uri: str) -> tuple[int, str]:
    """Size and time of change of a file that a table names; -1 where there is none on this machine."""
    try:
        path = storage.local_path(uri)
        status = path.stat() if path is not None else None
    except (OSError, ValueError):
        status = None
    return (-1, "") if status is None else (status.st_size, str(status.st_mtime_ns))


def _what_is_missing(files: tuple[str, ...]) -> str:
    pictures = sum(_is_picture(file) for file in files)
    if pictures:
        return f"no captions at all: found {pictures} pictures but no {' or '.join(METADATA_NAMES)}"
    return f"found {len(files)} files, but no pictures and no table of pictures, for example {storage.name(files[0])}"
