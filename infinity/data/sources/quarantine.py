"""What could not be used, kept with its reason, so that it can be looked at, repaired and put through again.

A quarantine is a folder of Parquet files, one a slice of the source. It keeps the bytes of a picture that could not be
decoded, or the row itself where that was malformed: whole up to ``MAX_KEPT_BYTES`` a row and ``MAX_SLICE_BYTES`` a
slice, else the beginning. The size and the sha256 are those of all that was read, and a picture that lies in a file of
its own is named by its URI, so that a replay reads it from there.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.fence import FencedSlice
from infinity.data.sources.samples import Record, SourceError
from infinity.data.tables import parquet_bytes, table_of

MAX_KEPT_BYTES = 4 * 2**20
"""Most bytes that are kept of one row; a larger picture keeps its beginning only."""

MAX_SLICE_BYTES = 32 * 2**20
"""Most bytes that are kept of one slice: the memory that a worker spends on it."""

BEGINNING_BYTES = 4096
"""Bytes that are kept of a row that is too large."""

_MARK = {b"infinity.kind": b"quarantine"}
QUARANTINE = pa.schema(
    [
        ("row", pa.int64()),
        ("name", pa.string()),
        ("reason", pa.string()),  # the slug that the ledger counts
        ("detail", pa.string()),
        ("part", pa.string()),  # whether data is the "picture" or the malformed "row" itself
        ("data", pa.large_binary()),
        ("is_whole", pa.bool_()),  # whether data is all that was read
        ("num_bytes", pa.int64()),  # of all that was read
        ("sha256", pa.binary(32)),  # of all that was read
        ("image", pa.string()),  # URI of the picture's own file; null where it lies inside of another
        ("url", pa.string()),
        ("caption", pa.string()),
        ("caption_long", pa.string()),
        ("caption_short", pa.string()),
    ],
    metadata=_MARK,
)

Part = Literal["picture", "row"]


class Quarantine:
    """Collects the rows of one slice that could not be used; a bounded part of their bytes."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._room = MAX_SLICE_BYTES

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, record: Record, error: UnreadableError, data: bytes = b"") -> None:
        """Keep one row.

        Args:
            record: Record as the source gave it.
            error: Reason why the record cannot be used.
            data: The picture's bytes as far as they were read; empty for a row that names none.
        """
        part: Part = "row" if record.problem is not None and not data else "picture"
        found = record.raw if part == "row" else data
        is_whole = len(found) <= min(MAX_KEPT_BYTES, self._room)
        kept = found if is_whole else found[: min(BEGINNING_BYTES, self._room)]
        self._room -= len(kept)
        self._rows.append(
            {
                "row": record.row,
                "name": writable(record.name),
                "reason": error.reason,
                "detail": writable(error.detail)[:1000],
                "part": part,
                "data": kept,
                "is_whole": is_whole,
                "num_bytes": len(found),
                "sha256": hashlib.sha256(found).digest(),
                "image": writable(record.image) if isinstance(record.image, str) and record.image else None,
                "url": _optional(record.url),
                "caption": _optional(record.caption),
                "caption_long": _optional(record.caption_long),
                "caption_short": _optional(record.caption_short),
            }
        )

    def table(self) -> pa.Table:
        """Return all rows in the order in which they came, in the columns of ``QUARANTINE``."""
        return table_of(self._rows, QUARANTINE)


def writable(text: str) -> str:
    """Return the text with lone surrogates and NUL spelled out, which no file format holds."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def to_bytes(table: pa.Table) -> bytes:
    """Return a Parquet file of quarantined rows, the same bytes for the same rows."""
    return parquet_bytes(table.cast(QUARANTINE), row_group_size=64)


def load(uri: str) -> pa.Table:
    """Return the rows of one quarantine file.

    Raises:
        SourceError: The file is no quarantine.
        StorageError: The file cannot be read.
    """
    with _opened(uri) as file:
        return file.read()


def files_of(uri: str) -> tuple[str, ...]:
    """Return the Parquet files of a quarantine: the file itself, or all in the folder."""
    return (uri,) if uri.endswith(".parquet") else tuple(f for f in storage.list_files(uri) if f.endswith(".parquet"))


def is_quarantine(schema: pa.Schema) -> bool:
    """Return whether a Parquet file with this schema was written by a quarantine."""
    return (schema.metadata or {}).get(b"infinity.kind") == _MARK[b"infinity.kind"]


@dataclass(frozen=True, slots=True)
class QuarantineSlice:
    """One quarantine file, read as a source: every row once more, as far as its bytes were kept or can be fetched."""

    uri: str
    first_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per row; what is malformed as a row stays so until somebody repairs it."""
        row = self.first_row
        with _opened(self.uri) as file:
            for batch in file.iter_batches(8):
                for index in range(batch.num_rows):
                    if wanted is None or row in wanted:
                        values = {name: batch.column(name)[index].as_py() for name in QUARANTINE.names}
                        yield replayed(row, values)
                    row += 1


def replayed(row: int, values: dict[str, Any]) -> Record:
    """Return the record of one quarantined row (columns of ``QUARANTINE``), under a new row number."""
    image: str | bytes = values["data"] if values["is_whole"] and values["data"] else (values["image"] or b"")
    problem = None
    if values["part"] == "row" or not image:
        problem = UnreadableError(values["reason"], values["detail"])
    return Record(
        row=row,
        name=values["name"],
        image=image if problem is None else b"",
        caption=values["caption"],
        caption_long=values["caption_long"],
        caption_short=values["caption_short"],
        url=values["url"],
        problem=problem,
        raw=values["data"] if problem is not None else b"",
    )


def num_quarantined(uri: str) -> int:
    """Return how many rows a quarantine file has.

    Raises:
        SourceError: The file is no quarantine.
    """
    with _opened(uri) as file:
        return int(file.metadata.num_rows)


def export(uri: str, folder: str, roots: tuple[str, ...] = ()) -> int:
    """Write a quarantine as an image folder to repair by hand, and return how many rows it has.

    ``metadata.jsonl`` gets one line a row: the picture's file, its captions, and the reason. A malformed row becomes a
    line without a picture and with what was found under ``found``: fill in ``file_name`` and ``text``. The repaired
    folder is a source like any other.

    Args:
        uri: Place of the quarantine.
        roots: Folders from which pictures that have a file of their own may be read once more, links resolved.

    Raises:
        SourceError: There is no quarantine.
        StorageError: The quarantine cannot be read, or the folder cannot be written.
    """
    lines: list[str] = []
    for file in files_of(uri):
        slice_ = FencedSlice(QuarantineSlice(file, 0), roots)
        for values, record in zip(load(file).to_pylist(), slice_.read(), strict=True):
            lines.append(json.dumps(_exported(values, record, folder, len(lines)), ensure_ascii=False))
    if not lines:
        raise SourceError(f"{uri}: found no quarantined rows")
    storage.write_text(storage.join(folder, "metadata.jsonl"), "\n".join(lines) + "\n")
    return len(lines)


def _exported(values: dict[str, Any], record: Record, folder: str, number: int) -> dict[str, Any]:
    line = {"reason": values["reason"], "detail": values["detail"], "name": values["name"], "url": values["url"]}
    if values["part"] == "row":
        return {
            "file_name": None,
            "text": values["caption"],
            "found": values["data"].decode("utf-8", "replace"),
            **line,
        }
    name = f"{number:06d}.bin"
    data = record.image
    if isinstance(data, str):
        try:
            data = storage.read_bytes(data)
        except storage.FileMissingError:
            data = b""  # it was missing then, and still is; the line says so
    elif record.problem is not None:
        line |= {"reason": record.problem.reason, "detail": record.problem.detail}
    storage.write_bytes(storage.join(folder, name), data)
    captions = {"long_caption": values["caption_long"], "text": values["caption_short"] or values["caption"]}
    return {"file_name": name, **captions, **line}


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(io.BytesIO(storage.read_bytes(uri))) as file:
            if not is_quarantine(file.schema_arrow):
                raise SourceError(f"{uri}: expected a Parquet file of quarantined rows, found another table")
            yield file
    except pa.ArrowInvalid as error:
        raise SourceError(f"{uri}: expected a Parquet file of quarantined rows ({error})") from error


def _optional(text: str | None) -> str | None:
    return None if text is None else writable(text)
