"""One slice of a list of addresses becomes one Parquet file of pictures, whole or absent.

The file has a row for every row of the list, in its order: the picture's bytes, or the reason why there are none. So
the same answers give the same file, and the ledger of the data stage accounts for every address.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.config import Config
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columnar.rows import DOWNLOADED
from infinity.data.sources.download.addresses import Lookup
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.download.fetching import Fetcher
from infinity.data.sources.opening import Slice
from infinity.data.sources.quarantine import writable
from infinity.data.sources.samples import Record
from infinity.storage.ranges import RangeReader

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("long_caption", pa.string()),
        ("image", pa.binary()),  # null where it could not be fetched
        ("reason", pa.string()),  # null where it could
        ("detail", pa.string()),
        ("found", pa.string()),  # a malformed row of the list as it was
    ],
    metadata=DOWNLOADED,
)

_GROUP_BYTES = 2**24
_GROUP_ROWS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceCounts(Config):
    """Counts of one slice.

    Attributes:
        read: Rows of the list.
        failed: Number of pictures that could not be fetched, by reason.
        num_bytes: Bytes of all pictures.
    """

    read: int
    failed: dict[str, int]
    num_bytes: int


def download_slice(piece: Slice, uri: str, config: DownloadConfig, lookup: Lookup | None = None) -> SliceCounts:
    """Fetch the pictures of a slice, unless its file is there already.

    Args:
        piece: Rows of a list of addresses.
        uri: The Parquet file to write.
        config: Limits of this process.
        lookup: Function from names to addresses; that of the system by default.

    Raises:
        StorageError: The list cannot be read or the file not be written.
    """
    if storage.exists(uri):
        return counts_of(uri)
    records = tuple(piece.read())
    with tempfile.TemporaryDirectory(prefix="inf-fetch-") as folder:
        problems = asyncio.run(_fetch_all(records, Path(folder), config, lookup))
        with storage.create(uri) as file, pq.ParquetWriter(file, SCHEMA, **_WRITING) as writer:
            for rows in _groups(records, problems, Path(folder)):
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return counts_of(uri)


_WRITING: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def counts_of(uri: str) -> SliceCounts:
    """Return the counts of a finished slice, from its file alone."""
    with pq.ParquetFile(pa.PythonFile(RangeReader(uri), mode="r")) as file:
        reasons = file.read(columns=["reason"])["reason"].to_pylist()
        image = file.schema_arrow.names.index("image")
        groups = range(file.metadata.num_row_groups)
        num_bytes = sum(file.metadata.row_group(group).column(image).total_uncompressed_size for group in groups)
    failed = Counter(reason for reason in reasons if reason is not None)
    return SliceCounts(read=len(reasons), failed=dict(sorted(failed.items())), num_bytes=num_bytes)


async def _fetch_all(
    records: tuple[Record, ...], folder: Path, config: DownloadConfig, lookup: Lookup | None
) -> list[UnreadableError | None]:
    """Fetch every record's picture into a file of the folder; the problems in the order of the records."""
    async with Fetcher(config, lookup) as fetcher:
        # As many as can be under way or wait for one host; each holds one open file.
        slots = asyncio.Semaphore(2 * config.connections)

        async def one(index: int, record: Record) -> UnreadableError | None:
            if record.problem is not None or record.url is None:
                return record.problem or UnreadableError("bad_row", "has no url")
            async with slots:
                try:
                    with _file(folder, index).open("wb") as sink:
                        await fetcher.fetch(record.url, sink)
                except UnreadableError as error:
                    _file(folder, index).unlink()
                    return error
            return None

        return await asyncio.gather(*(one(index, record) for index, record in enumerate(records)))


def _groups(
    records: tuple[Record, ...], problems: list[UnreadableError | None], folder: Path
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows of the file, as many at once as fit into memory easily."""
    rows: list[dict[str, Any]] = []
    size = 0
    for index, (record, problem) in enumerate(zip(records, problems, strict=True)):
        image = _file(folder, index).read_bytes() if problem is None else None
        size += len(image or b"")
        rows.append(_row(record, problem, image))
        if size >= _GROUP_BYTES or len(rows) >= _GROUP_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _row(record: Record, problem: UnreadableError | None, image: bytes | None) -> dict[str, Any]:
    short = record.caption if record.caption_short is None else record.caption_short
    return {
        "row": record.row,
        "url": None if record.url is None else writable(record.url),
        "text": None if short is None else writable(short),
        "long_caption": None if record.caption_long is None else writable(record.caption_long),
        "image": image,
        "reason": None if problem is None else problem.reason,
        "detail": None if problem is None else writable(problem.detail)[:1000],
        "found": record.raw.decode("utf-8", "backslashreplace") if record.raw else None,
    }


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}"
