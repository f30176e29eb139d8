"""Captions in files beside pictures: ``cat.txt`` for ``cat.png``, as tools for finetuning lay them out.

A picture takes what a table says of it; where that says nothing, the files of its own name: ``.txt``, ``.text`` and
``.caption`` hold a caption, ``.json`` the columns of a row. What they say is put together as in a shard.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.fence import Slice
from infinity.data.sources.samples import CaptionChoice, Record

TEXT_ENDINGS = ("txt", "text", "caption")
ENDINGS = (*TEXT_ENDINGS, "json")
MAX_TEXT_BYTES = 2**20

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def fields_of(parts: Iterable[tuple[str, bytes]], columns: SourceColumns) -> dict[str, Any]:
    """Return the columns of a row whose captions lie in files of their own.

    Args:
        parts: Name and content of each file; a name ends with one of ``ENDINGS``.
        columns: Names of columns.

    Raises:
        UnreadableError: A file is not what its ending says.
    """
    fields: dict[str, Any] = {}
    texts: list[str] = []
    for name, data in parts:
        if ending_of(name) == "json":
            fields.update(_object(name, data))
        else:
            texts.append(text_of(name, data))
    if texts:  # a caption of its own counts more than what the JSON repeats
        fields = {name: value for name, value in fields.items() if name not in columns.shorts(fields)}
        fields[columns.caption or "text"] = texts[::-1]  # the last one counts most
    return fields


def text_of(name: str, data: bytes) -> str:
    """Return a text in UTF-8, or in UTF-16 with its mark.

    Raises:
        UnreadableError: The bytes are neither UTF-8 nor UTF-16.
    """
    try:
        return data.decode("utf-16" if data.startswith(UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("bad_row", f"{name}: not UTF-8: {error.reason}") from error


def ending_of(name: str) -> str:
    """Return what follows the last dot, in small letters."""
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def stem_of(uri: str) -> str:
    """Return a URI without what follows the last dot of its name."""
    return uri[: uri.rindex(".")] if "." in storage.name(uri) else uri


class CaptionFiles:
    """Which of a folder's files hold captions of which pictures.

    Args:
        files: URIs of all files of the folder.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        for uri in files:
            if ending_of(uri) in ENDINGS and not storage.name(uri).startswith("."):
                self._by_stem.setdefault(uri[: uri.rindex(".")], []).append(uri)

    def of(self, picture: str) -> tuple[str, ...]:
        """Return the caption files of a picture, the one that counts most last.

        Files of its name without its ending count more than those of its whole name.
        """
        stem = stem_of(picture)
        whole = self._by_stem.get(picture, []) if stem != picture else []
        return (*sorted(whole, key=_order), *sorted(self._by_stem.get(stem, []), key=_order))


def _order(uri: str) -> tuple[int, str]:
    return -ENDINGS.index(ending_of(uri)), uri  # the first ending counts most, and so comes last


@dataclass(frozen=True, slots=True)
class Captioned:
    """A slice whose records without a caption take the one that lies in files beside their picture.

    Attributes:
        piece: The slice.
        files: URIs of the caption files by the picture's URI.
        captions: Choice of caption where there is a long and a short one.
        columns: Names of columns.
    """

    piece: Slice
    files: Mapping[str, tuple[str, ...]]
    captions: CaptionChoice
    columns: SourceColumns = field(default_factory=SourceColumns)

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        return self.piece.first_row

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records, or those of ``wanted`` rows."""
        for record in self.piece.read(wanted):
            yield self._filled(record)

    def _filled(self, record: Record) -> Record:
        files = self.files.get(record.image) if isinstance(record.image, str) else None
        if not files or record.problem is not None or (record.caption or "").strip():
            return record
        try:
            fields = fields_of(((storage.name(uri), _content(uri)) for uri in files), self.columns)
            found = self.columns.captions_of(fields, self.captions)
        except UnreadableError as error:
            return replace(record, problem=error)
        urls = (fields[name] for name in self.columns.urls(fields))
        return replace(
            record,
            url=record.url or next((url for url in urls if isinstance(url, str) and url), None),
            **found.fields,
        )


def _content(uri: str) -> bytes:
    try:
        data = storage.read_bytes(uri, start=0, length=MAX_TEXT_BYTES + 1)
    except storage.FileMissingError as error:
        raise UnreadableError("missing_file", f"{storage.name(uri)}: there is no such file") from error
    except storage.StorageError as error:
        if storage.local_path(uri) is None:
            raise
        raise UnreadableError("not_accessible", str(error)) from error
    if len(data) > MAX_TEXT_BYTES:
        raise UnreadableError("row_too_large", f"{storage.name(uri)}: more than {MAX_TEXT_BYTES:,} bytes")
    return data


def _object(name: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text_of(name, data))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError("bad_row", f"{name}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableError("bad_row", f"{name}: expected an object, found {type(found).__name__}")
    return found
