"""Where captioned pictures come from: an image folder, the reference's JSON lines, Parquet files, or drawn scenes.

``open_source`` recognises the form and cuts it into slices. A slice is small, says where its rows are and not what they
hold, and can be read alone on any machine: a job deals slices to workers, and no process ever holds the whole source.
"""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

from PIL import Image

from infinity import storage
from infinity.config import digest_of
from infinity.data.decoding import UnreadableError
from infinity.data.parquet_source import parquet_slices, resolve
from infinity.data.samples import Record, SourceError
from infinity.data.scenes import ScenesConfig, training_scene

ROWS_PER_SLICE = 64
"""Small enough that progress moves and workers end together, large enough that a task is worth its overhead."""

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
METADATA_NAME = "metadata.jsonl"
EXPECTED = (
    "expected an image folder with metadata.jsonl (fields file_name and text), a .jsonl file of the reference "
    "(fields image_path and long_caption or text), .parquet files (a column image or bytes, and text), or a folder "
    "of one of the last two"
)
_CHUNK_BYTES = 2**24

CaptionChoice = Literal["long", "short"]


class Slice(Protocol):
    """Some rows of a source, from ``first_row`` on."""

    @property
    def first_row(self) -> int:
        """The smallest row."""
        ...

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """The slice's records in order of their row; of ``wanted`` rows only, if given."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A recognised source.

    Attributes:
        kind: For messages: "image folder", "JSON lines", "Parquet", "drawn scenes".
        slices: All rows, each in exactly one slice; rows of a later slice are larger.
    """

    kind: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class LinesSlice:
    """Lines of one JSON-lines file: ``length`` bytes from ``start``; pictures are named relative to ``folder``."""

    uri: str
    start: int
    length: int
    first_row: int
    folder: str
    captions: CaptionChoice

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """One record a line that is not blank."""
        data = storage.read_bytes(self.uri, start=self.start, length=self.length)
        for number, line in enumerate(data.split(b"\n")):
            row = self.first_row + number
            if line.strip() and (wanted is None or row in wanted):
                yield self._record(row, line)

    def _record(self, row: int, line: bytes) -> Record:
        where = f"{storage.name(self.uri)} row {row}"
        try:
            fields = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except ValueError as error:
            return Record(row=row, name=where, problem=UnreadableError("bad_row", f"not a line of JSON: {error}"))
        image = (fields.get("file_name") or fields.get("image_path")) if isinstance(fields, dict) else None
        if not isinstance(image, str):
            return Record(
                row=row, name=where, problem=UnreadableError("bad_row", "names no picture (file_name or image_path)")
            )
        try:
            caption = _caption(fields, self.captions)
        except TypeError as error:
            return Record(row=row, name=image, problem=UnreadableError("bad_row", str(error)))
        return Record(row=row, name=image, image=resolve(self.folder, image), caption=caption)


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
    return Source(kind="drawn scenes", slices=tuple(ScenesSlice(config, a, b) for a, b in pairwise(edges)))


def _caption(fields: dict[str, Any], choice: CaptionChoice) -> str | None:
    """The wanted caption, or the other one where that is missing or blank."""
    names = ("long_caption", "text") if choice == "long" else ("text", "long_caption")
    for name in names:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"expected a text or null as {name}, found {type(value).__name__}")
        if value is not None and value.strip():
            return value
    return None


def open_source(uri: str, *, captions: CaptionChoice = "long", rows_per_slice: int = ROWS_PER_SLICE) -> Source:
    """Recognise a source and cut it into slices; pictures are not opened.

    Args:
        uri: A folder or a file, local or in S3.
        captions: Which caption is taken where a row has a long and a short one.
        rows_per_slice: Rows that one task handles.

    Raises:
        SourceError: Nothing there, an unknown form, or no captions at all; the message says what is expected.
        StorageError: The place cannot be read.
    """
    uri = _plain(uri)
    if uri.endswith(".jsonl"):
        _check_file(uri)
        slices = _lines(uri, storage.parent(uri), 0, captions, rows_per_slice)
        return _source("JSON lines", slices, uri)
    if uri.endswith(".parquet"):
        _check_file(uri)
        return _source("Parquet", parquet_slices((uri,), captions), uri)
    files = storage.list_files(uri)
    if not files:
        raise SourceError(f"{uri}: found no files; {EXPECTED}")
    metadata = tuple(file for file in files if storage.name(file) == METADATA_NAME)
    tables = metadata or tuple(file for file in files if file.endswith(".jsonl") and names_pictures(file))
    if tables:
        return _folder(uri, files, tables, captions, rows_per_slice)
    if parquet := tuple(file for file in files if file.endswith(".parquet")):
        return _source("Parquet", parquet_slices(parquet, captions), uri)
    raise SourceError(f"{uri}: {_what_is_missing(files)}; {EXPECTED}")


def fingerprint(uri: str) -> str:
    """16 hexadecimal digits that change when the source does: names, sizes and versions of its files.

    Of a JSON-lines file on this machine also those of the pictures it names; of one in S3 only the file itself.

    Raises:
        SourceError: Nothing there.
        StorageError: The place cannot be listed.
    """
    uri = _plain(uri)
    if uri.endswith((".jsonl", ".parquet")):
        _check_file(uri)
        parts: list[Any] = [storage.sha256(uri)]
        if uri.endswith(".jsonl") and storage.local_path(uri) is not None:
            for piece in _lines(uri, storage.parent(uri), 0, "long", ROWS_PER_SLICE):
                parts += [[record.name, _version(str(record.image))] for record in piece.read() if not record.problem]
        return digest_of(parts)
    details = storage.list_details(uri)
    if not details:
        raise SourceError(f"{uri}: found no files; {EXPECTED}")
    return digest_of([[info.uri[len(uri) :], info.num_bytes, info.version] for info in details])


def names_pictures(uri: str) -> bool:
    """Whether the first line of a JSON-lines file has one of the fields that name a picture."""
    for line in storage.read_bytes(uri, start=0, length=_CHUNK_BYTES).split(b"\n"):
        if line.strip():
            try:
                fields = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except ValueError:
                return False
            return isinstance(fields, dict) and ("image_path" in fields or "file_name" in fields)
    return False


def _folder(
    uri: str, files: tuple[str, ...], tables: tuple[str, ...], captions: CaptionChoice, rows_per_slice: int
) -> Source:
    """The rows of all tables, then the pictures that none of them names."""
    slices: list[Slice] = []
    named: set[str] = set()
    row = 0
    for table in tables:
        lines = _lines(table, storage.parent(table), row, captions, rows_per_slice)
        slices += lines
        row = (lines[-1].first_row + rows_per_slice) if lines else row
        named.update(
            posixpath.normpath(str(record.image)) for piece in lines for record in piece.read() if not record.problem
        )
    rest = [file for file in files if _is_picture(file) and posixpath.normpath(file) not in named]
    for start in range(0, len(rest), rows_per_slice):
        uris = tuple(rest[start : start + rows_per_slice])
        slices.append(FilesSlice(uris, tuple(file[len(uri.rstrip("/")) + 1 :] for file in uris), row + start))
    kind = "image folder" if storage.name(tables[0]) == METADATA_NAME else "folder of JSON lines"
    return Source(kind=kind, slices=tuple(slices))


def _lines(uri: str, folder: str, first_row: int, captions: CaptionChoice, rows_per_slice: int) -> list[LinesSlice]:
    """Cut a file at line ends, reading it in pieces."""
    slices: list[LinesSlice] = []
    start = position = lines = row = 0
    while chunk := storage.read_bytes(uri, start=position, length=_CHUNK_BYTES):
        at = chunk.find(b"\n")
        while at >= 0:
            lines += 1
            if lines == rows_per_slice:
                end = position + at + 1
                slices.append(LinesSlice(uri, start, end - start, first_row + row, folder, captions))
                start, row, lines = end, row + lines, 0
            at = chunk.find(b"\n", at + 1)
        position += len(chunk)
    if position > start:
        slices.append(LinesSlice(uri, start, position - start, first_row + row, folder, captions))
    return slices


def _source(kind: str, slices: list[Any], uri: str) -> Source:
    if not slices:
        raise SourceError(f"{uri}: found no rows; {EXPECTED}")
    return Source(kind=kind, slices=tuple(slices))


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


def _version(uri: str) -> list[int] | None:
    path = storage.local_path(uri)
    try:
        status = path.stat() if path is not None else None
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns] if status is not None else None


def _what_is_missing(files: tuple[str, ...]) -> str:
    pictures = sum(_is_picture(file) for file in files)
    if pictures:
        other = [
            name for name in ("metadata.csv", "metadata.parquet") if any(storage.name(file) == name for file in files)
        ]
        hint = f" (found {other[0]}, which is not read)" if other else ""
        return f"no captions at all: found {pictures} pictures but no {METADATA_NAME}{hint}"
    return f"found {len(files)} files, but no pictures and no table of pictures, for example {storage.name(files[0])}"
