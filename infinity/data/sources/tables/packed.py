"""Packed tables, such as ``train.jsonl.gz``: unpacked whole where the source is opened, and held by their slices.

A packed text cannot be read from its middle, so a table must be small enough to be unpacked at once. What it holds is
read as if it were not packed: the forms are those of the other modules here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.fence import Slice
from infinity.data.sources.samples import Record, SourceError
from infinity.data.sources.shard_files import unpack
from infinity.data.sources.tables.held_rows import MAX_DOCUMENT_BYTES

_TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_PACKS = (".gz", ".bz2", ".xz", ".zst")
ENDINGS = tuple(text + pack for text in _TEXTS for pack in _PACKS)


@dataclass(frozen=True, slots=True)
class UnpackedSlice:
    """Some rows of a packed table."""

    records: tuple[Record, ...]
    first_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per row, or those of ``wanted`` rows."""
        return (record for record in self.records if wanted is None or record.row in wanted)


def is_packed_table(uri: str) -> bool:
    """Return whether a file is a packed table, by its name."""
    return uri.lower().endswith(ENDINGS)


@contextmanager
def unpacked(uri: str) -> Iterator[str]:
    """Unpack a table into a file of this machine for as long as the context lasts, and yield its path.

    Raises:
        SourceError: The file is cut off or damaged, or too large to be unpacked at once.
        StorageError: The file cannot be read, or no space is left.
    """
    with tempfile.TemporaryDirectory(prefix="inf-table-") as folder:
        path = Path(folder) / storage.name(uri).rpartition(".")[0]
        try:
            with path.open("wb") as file:
                unpack(uri, cast(BinaryIO, file), MAX_DOCUMENT_BYTES)
        except UnreadableError as error:
            raise SourceError(f"{uri}: {error.detail}; unpack it, or fetch it again") from error
        yield str(path)


def held(pieces: Sequence[Slice], folder: str) -> list[Slice]:
    """Return the slices of an unpacked table with all their rows, so that the unpacked file may go.

    Args:
        pieces: Slices of a table of text.
        folder: URI of the packed table's folder, which names of pictures are relative to.
    """
    there = (replace(cast(Any, piece), folder=folder) for piece in pieces)
    return [UnpackedSlice(tuple(piece.read()), piece.first_row) for piece in there]
