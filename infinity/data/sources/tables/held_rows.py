"""Rows of a document that cannot be read in pieces: the slices hold them.

A JSON document or a list with several lines per picture must be read whole before its rows are known. Such files are
small against the pictures that they name; ``MAX_DOCUMENT_BYTES`` bounds them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.folders.caption_files import text_of
from infinity.data.sources.samples import CaptionChoice, Record, SourceError

MAX_DOCUMENT_BYTES = 2**28
"""Larger documents are refused: they would not fit into memory several times."""

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class HeldSlice:
    """Some rows of a document, each as JSON: an object with columns, or a text that says why there is none.

    Attributes:
        first_row: Number of the first row.
        folder: URI of the folder that names of pictures are relative to.
        captions: Choice of caption where there is a long and a short one.
    """

    uri: str
    rows: tuple[str, ...]
    first_row: int
    folder: str
    captions: CaptionChoice
    columns: SourceColumns

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per row, or those of ``wanted`` rows."""
        for row, text in enumerate(self.rows, start=self.first_row):
            if wanted is None or row in wanted:
                yield self._record(row, text)

    def _record(self, row: int, text: str) -> Record:
        where, raw = f"{storage.name(self.uri)} row {row}", text.encode("utf-8", "backslashreplace")
        fields = json.loads(text)
        if not isinstance(fields, dict):
            detail = fields if isinstance(fields, str) else f"expected an object, found {type(fields).__name__}"
            return Record(row=row, name=where, problem=UnreadableError("bad_row", detail), raw=raw)
        return self.columns.record_of(fields, row=row, where=where, folder=self.folder, choice=self.captions, raw=raw)


def held_slices(
    uri: str,
    rows: Sequence[Any],
    first_row: int,
    captions: CaptionChoice,
    columns: SourceColumns,
    rows_per_slice: int,
) -> tuple[list[HeldSlice], int]:
    """Cut the rows of a document into slices; and the row behind its last.

    Args:
        rows: Columns of each row, or a text that says why a row has none.
        first_row: Number of the first row.
        captions: Choice of caption where there is a long and a short one.
    """
    texts = [json.dumps(row) for row in rows]
    folder = storage.parent(uri)
    slices = [
        HeldSlice(uri, tuple(texts[at : at + rows_per_slice]), first_row + at, folder, captions, columns)
        for at in range(0, len(texts), rows_per_slice)
    ]
    return slices, first_row + len(texts)


def document(uri: str) -> str:
    """Return the text of a document, UTF-8 or UTF-16.

    Raises:
        SourceError: It is too large, or no text.
        StorageError: It cannot be read.
    """
    size = storage.size(uri)
    if size > MAX_DOCUMENT_BYTES:
        raise SourceError(
            f"{uri}: expected a document of at most {MAX_DOCUMENT_BYTES:,} bytes, found {size:,}; write it as JSON "
            "lines (.jsonl) or Parquet, which are read in pieces"
        )
    try:
        return text_of(storage.name(uri), storage.read_bytes(uri))
    except UnreadableError as error:
        raise SourceError(f"{uri}: {error.detail}") from error
