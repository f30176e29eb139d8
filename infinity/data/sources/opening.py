"""Where captioned pictures come from: folders, tables, shards, lists of addresses, or drawn scenes.

``open_source`` recognises the form and cuts it into slices. A slice is small, says where its rows are and not what they
hold, and can be read alone on any machine: a job deals slices to workers, and no process ever holds the whole source.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from infinity import storage
from infinity.config import digest_of
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.fence import Slice, fenced
from infinity.data.sources.file_forms import URL_LIST
from infinity.data.sources.folders.archives import contents_of, is_archive_file
from infinity.data.sources.folders.file_names import PICTURE_ENDINGS
from infinity.data.sources.folders.folder_files import FILES, TABLES, advice
from infinity.data.sources.forms import EXPECTED, Opening, Source, and_links
from infinity.data.sources.samples import CaptionChoice, Record, SourceError
from infinity.scenes.drawing import ScenesConfig, training_scene

__all__ = ["PICTURE_ENDINGS", "URL_LIST", "Slice", "Source", "fingerprint", "open_source", "roots_of", "scene_source"]

ROWS_PER_SLICE = 64
"""Small enough that progress moves and workers end together, large enough that a task is worth its overhead."""

_BYTES_READ = 2**28
"""Bytes that are read in about a second."""


@dataclass(frozen=True, slots=True)
class ScenesSlice:
    """Scenes ``first_row`` to ``end_row`` of a drawn data set, as PNG."""

    config: ScenesConfig
    first_row: int
    end_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per scene; drawing it again gives the same bytes."""
        for row in range(self.first_row, self.end_row):
            if wanted is None or row in wanted:
                scene = training_scene(self.config, row)
                buffer = io.BytesIO()
                Image.fromarray(scene.image).save(buffer, format="PNG", compress_level=6)
                yield Record(row=row, name=f"scene {row}", image=buffer.getvalue(), caption=scene.prompt.prompt)


def scene_source(config: ScenesConfig, rows_per_slice: int = ROWS_PER_SLICE) -> Source:
    """Return drawn scenes, cut into slices that workers draw."""
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
    joins: bool = True,
) -> Source:
    """Recognise a source and cut it into slices; pictures are not opened.

    Args:
        uri: A folder, a zip archive or another file, local or in S3.
        captions: Choice of caption where a row has a long and a short one.
        rows_per_slice: Rows that one task handles; a shard is always one task.
        columns: Names of columns; None guesses.
        roots: Further folders whose files the source may name; all others must lie below the source, links resolved.
        joins: Whether rows of one table that name the same picture are one row with several captions.

    Raises:
        SourceError: Nothing there, an unknown form, or no captions at all; the message says what is expected.
        StorageError: The place cannot be read.
    """
    uri = _plain(uri)
    how = Opening(captions, rows_per_slice, columns or SourceColumns(), roots_of(uri, roots), joins)
    if uri.lower().endswith(FILES):
        _check_file(uri)
        return how.file(uri)
    is_packed = is_archive_file(uri)
    (_check_file if is_packed else _check_folder)(uri)
    found = contents_of(uri, how.roots)
    if not found.files and not found.broken:
        empty = f" but {len(found.left_out)} {found.left_out[0][1]}" if found.left_out else ""
        raise SourceError(f"{uri}: found no files{empty}{and_links(found.outside)}; {EXPECTED}")
    return how.folder(storage.inside_archive(uri) if is_packed else uri, found)


def roots_of(uri: str, further: tuple[str, ...]) -> tuple[str, ...]:
    """Return where everything must lie that a source names: in its folder, or in one that the user allows besides."""
    if is_archive_file(uri):
        return (storage.inside_archive(uri), *map(_plain, further))
    return (storage.parent(uri) if uri.lower().endswith(FILES) else uri, *map(_plain, further))


def fingerprint(uri: str, roots: tuple[str, ...] = ()) -> str:
    """Return 16 hexadecimal digits that change when the source does: names of its files, and what tells contents apart.

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
    if uri.lower().endswith(FILES) or is_archive_file(uri):
        _check_file(uri)
        named: list[_Seen] = []
        if uri.lower().endswith(TABLES) and storage.local_path(uri) is not None:
            for piece in fenced(_table_or_nothing(uri), roots):
                found = [(record.name, str(record.image)) for record in piece.read() if not record.problem]
                named += [_Seen(name, image, *_version(image)) for name, image in found]
        return digest_of([storage.sha256(uri), *_contents(named)])
    _check_folder(uri)
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
    """Return files of this machine by their bytes; by sizes and versions where those would take long to read."""
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
    """Return the slices of a table; none where its columns need names that only the settings know."""
    try:
        return Opening("long", ROWS_PER_SLICE, SourceColumns()).table(uri, 0)[0]
    except SourceError:
        return ()


def _plain(uri: str) -> str:
    """Return a path for file://..., so that names in tables can be joined to it without quoting."""
    path = storage.local_path(uri)
    return uri if path is None else str(path)


def _check_file(uri: str) -> None:
    if not storage.exists(uri):
        raise SourceError(f"{uri}: there is no such file; {EXPECTED}")


def _check_folder(uri: str) -> None:
    """Refuse a file that is no source; whether a bucket has such a folder is seen when it is listed."""
    path = storage.local_path(uri)
    if path is not None and path.is_file():
        what = advice(uri)
        raise SourceError(f"{uri}: a file that is no source{f'; {what}' if what else ''}; {EXPECTED}")


def _version(uri: str) -> tuple[int, str]:
    """Return size and time of change of a file that a table names; -1 where there is none on this machine."""
    try:
        path = storage.local_path(uri)
        status = path.stat() if path is not None else None
    except (OSError, ValueError):
        status = None
    return (-1, "") if status is None else (status.st_size, str(status.st_mtime_ns))
