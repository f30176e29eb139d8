"""From the files of a source to slices: every form that a folder holds is read, one after the other.

A folder may mix forms: tables that name pictures, shards, Parquet, pictures with captions beside them. All are read, in
this order: tables of pictures, shards, Parquet, CSV, pictures that nothing names, addresses. What cannot be read is a
row with a reason, so that rows read and rows that are named as not read are all rows that lie there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from infinity import storage
from infinity.data.images.decoding import LFS_POINTER, is_lfs_pointer
from infinity.data.sources.columns import HOW_TO_NAME, shown
from infinity.data.sources.fence import BrokenFile, FencedSlice, FilesSlice, OutsideLinks, Slice, fenced
from infinity.data.sources.file_forms import FileForms
from infinity.data.sources.folders.archives import FolderContents, below
from infinity.data.sources.folders.caption_files import Captioned, CaptionFiles, stem_of
from infinity.data.sources.folders.file_names import FileNames, Renamed, is_picture
from infinity.data.sources.folders.folder_files import METADATA_NAMES, FolderFiles, NotRead, first_fields
from infinity.data.sources.folders.label_files import MASKS, masks_among
from infinity.data.sources.samples import SourceError
from infinity.data.sources.tables.joining import RepeatedPictures, names_file
from infinity.data.sources.tables.packed import is_packed_table

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
class Opening(FileForms):
    """Settings of cutting and reading a source: a file, or a folder of files of any form."""

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
        names = {storage.name(file) for file in contents.files if is_picture(file)}
        how = replace(self, pictures=frozenset(names | set(map(stem_of, names))))
        reading = _Reading(how, uri, contents.files)
        sorted_files = FolderFiles.of(contents.files, how.columns, how.kind, reading.captions, how.pictures)
        sorted_files.not_read.extend(contents.left_out)
        reading.broken_archives(contents.broken)
        reading.tables(sorted_files.tables)
        for group in (sorted_files.shards, sorted_files.columnar, sorted_files.lists):
            reading.files(group)
        reading.pictures(sorted_files.pictures)
        reading.addresses(sorted_files.addresses)
        return reading.source(contents.outside, sorted_files)


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
