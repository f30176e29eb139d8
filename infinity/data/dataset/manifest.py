"""The manifest: a Parquet file that says what a data set holds, where every picture lies, and why it is what it is.

The head (counts, shards and their checksums) is JSON in the Parquet file's own metadata, so that table and head cannot
part. The rows of a large data set lie in files of their own (`manifest_parts`), which the manifest names with their
checksums and which are opened when they are needed. The manifest is written after everything it names; its presence
means that the data set is complete.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from infinity import storage
from infinity.config import parse_json
from infinity.data.dataset.manifest_head import FORMAT, PARTS_FORMAT, ManifestHead
from infinity.data.dataset.manifest_parts import PART_PATH, ManifestPart, PartedColumns, write_parts
from infinity.data.dataset.manifest_rows import (
    FULL_SCHEMA,
    ROWS_PER_GROUP,
    SCHEMA,
    has_further,
    whole_groups,
    with_further,
)
from infinity.data.dataset.parquet_columns import ParquetColumns

_HEAD_KEY, _PARTS_KEY = b"infinity.dataset", b"infinity.parts"
_REPEATING = ("shard", "extension", "split")

Split = Literal["train", "validation"]


class ManifestError(ValueError):
    """A file is not a manifest, or not one of this version."""


class Manifest:
    """A data set's table and head.

    A picture is named by its row number in the table, the same for every process that loads the manifest. Of a loaded
    manifest the file is kept as it is, and its columns are decoded when they are asked for: reading for a training
    needs a third of them.

    Attributes:
        uri: Place of the manifest, which need not exist yet.
        head: Facts about the data set as a whole.
    """

    def __init__(
        self, *, uri: str, head: ManifestHead, table: pa.Table | ParquetColumns | PartedColumns, saved_digest: str = ""
    ) -> None:
        """Compose a manifest.

        Args:
            uri: Place of the manifest, which need not exist yet.
            head: Facts about the data set as a whole.
            table: Rows of the manifest, with the columns of ``SCHEMA``.
            saved_digest: sha256 of the file it was loaded from; empty for one that was not.
        """
        self.uri, self.head = uri, head
        self._rows, self._saved_digest = table, saved_digest
        self._shard_uris: dict[str, str] = {}

    @classmethod
    def load(cls, uri: str) -> Manifest:
        """Read a manifest.

        Raises:
            ManifestError: The file is no manifest, or one of another version.
            StorageError: The file is missing or unreadable.
        """
        return cls._parsed(uri, storage.read_bytes(uri))

    @classmethod
    def write(
        cls,
        uri: str,
        head: ManifestHead,
        tables: Iterable[pa.Table],
        further: bool = False,
        rows_per_part: int | None = None,
    ) -> Manifest:
        """Write a manifest whose rows come a piece at a time, and give it as it would be loaded.

        Args:
            uri: Place of the manifest.
            head: Facts about the data set as a whole.
            tables: Rows of the manifest, with the columns of ``SCHEMA``; one row group is in memory at a time. The same
                rows in the same pieces give the same bytes.
            further: Whether some row has further captions.
            rows_per_part: Rows of a file of its own beside the manifest, a multiple of a row group's; None puts all
                rows into the manifest.

        Raises:
            FileAlreadyThereError: Another manifest lies there.
            StorageError: The manifest cannot be written.
        """
        if rows_per_part is None:
            content = _file_of(head, tables, further)
        else:
            schema = FULL_SCHEMA if further else SCHEMA
            groups = whole_groups((with_further(table).select(schema.names) for table in tables), schema)
            parts = write_parts(storage.parent(uri), groups, schema, rows_per_part)
            content = _file_of(head.replace(format=PARTS_FORMAT), (), further, parts)
        storage.put_once(uri, content)
        return cls._parsed(uri, content)

    @classmethod
    def _parsed(cls, uri: str, content: bytes | memoryview) -> Manifest:
        try:
            file = ParquetColumns(content, _REPEATING)
            metadata, columns = file.metadata, cast(ParquetColumns | PartedColumns, file)
        except (pa.ArrowInvalid, OSError) as error:
            raise ManifestError(f"{uri}: expected a manifest, which is a Parquet file ({error})") from error
        text = metadata.get(_HEAD_KEY)
        if text is None:
            raise ManifestError(
                f"{uri}: expected a manifest, found a Parquet file without its head; build the data set first"
            )
        data = parse_json(text, where=uri)
        version = data.get("format") if isinstance(data, dict) else data
        if version not in (FORMAT, PARTS_FORMAT):
            raise ManifestError(
                f"{uri}: expected manifest format {FORMAT} or {PARTS_FORMAT}, found {version!r:.80}; build the data "
                "set again"
            )
        if version == PARTS_FORMAT:
            try:
                columns = PartedColumns(_parts_of(metadata, uri), storage.parent(uri), _REPEATING)
            except (pa.ArrowInvalid, OSError) as error:
                raise ManifestError(f"{uri}: the manifest is damaged ({error}); build the data set again") from error
        if unfit := columns.unfit(SCHEMA):
            raise ManifestError(f"{uri}: {unfit}; build the data set again")
        return cls(
            uri=uri,
            head=ManifestHead.from_json(data, where=uri),
            table=columns,
            saved_digest=hashlib.sha256(content).hexdigest(),
        )

    @cached_property
    def table(self) -> pa.Table:
        """All rows and columns, decoded; ``column`` is quicker for one of them.

        Raises:
            ManifestError: The file is damaged.
        """
        with self._whole():
            return self._rows.whole() if isinstance(self._rows, ParquetColumns | PartedColumns) else self._rows

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of ``SCHEMA``; shard, extension and split may come as dictionaries of texts.

        Raises:
            ManifestError: The file is damaged.
        """
        if "table" in self.__dict__ or not isinstance(self._rows, ParquetColumns | PartedColumns):
            return self.table[name]
        with self._whole():
            return self._rows.column(name)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            raise ManifestError(f"{self.uri}: the manifest is damaged ({error}); build the data set again") from error

    def save(self) -> None:
        """Write the manifest under its URI, whole and once; the same content gives the same bytes.

        Raises:
            FileAlreadyThereError: Another manifest lies there.
            StorageError: The manifest cannot be written.
        """
        storage.put_once(self.uri, self.to_bytes())

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that name this version of the data set: sha256 of the manifest's file."""
        return self._saved_digest or hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def parts(self) -> tuple[ManifestPart, ...]:
        """Files of the rows, below the manifest's folder; none where the manifest holds its rows itself."""
        return self._rows.parts if isinstance(self._rows, PartedColumns) else ()

    @property
    def root(self) -> str:
        """URI of the folder that holds the shards, which several versions of a data set share."""
        folder = storage.parent(self.uri)
        return folder if self.head.root == "." else storage.parent(folder)

    def to_bytes(self) -> bytes:
        """Return the bytes of the manifest's file."""
        head = self.head.replace(format=FORMAT) if self.head.format == PARTS_FORMAT else self.head
        return bytes(_file_of(head, [self.table], has_further(self.table)))

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @cached_property
    def aspect_ratios(self) -> np.ndarray:
        """Float64, one value per row."""
        values: np.ndarray = self._filled("aspect_ratio").to_numpy()
        return values

    @cached_property
    def _places(self) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray]:
        shards, offsets, sizes = (self._filled(name) for name in ("shard", "offset", "num_bytes"))
        return shards, offsets.to_numpy(), sizes.to_numpy()

    def _filled(self, name: str) -> pa.ChunkedArray:
        """Return a column without which a picture cannot be found.

        Raises:
            ManifestError: The file is damaged, or some rows have no value.
        """
        column = self.column(name)
        if column.null_count:
            raise ManifestError(
                f"{self.uri}: expected a value in every row of the column {name!r}, found {column.null_count} rows "
                "without one; build the data set again"
            )
        return column

    def rows(self, split: Split, aspect_ratio: float | None = None) -> Int[np.ndarray, " n"]:
        """Return row numbers of one split, or of one ratio in it, ascending."""
        chosen = pc.equal(self.column("split"), split).to_numpy(zero_copy_only=False)
        if aspect_ratio is not None:
            chosen = chosen & (self.aspect_ratios == aspect_ratio)
        return np.flatnonzero(chosen)

    def captions(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> list[str]:
        """Return captions of the rows, in their order.

        Raises:
            ManifestError: The file is damaged, or a row has none.
        """
        captions = self.values("caption", rows)
        if None in captions:
            raise ManifestError(
                f"{self.uri}: expected a caption in every row, found none in row {rows[captions.index(None)]}; "
                "build the data set again"
            )
        return captions

    def values(self, name: str, rows: Sequence[int] | Int[np.ndarray, " n"]) -> list[Any]:
        """Return values of a column in some rows, in their order; of a loaded manifest only that part is decoded.

        Raises:
            ManifestError: The file is damaged.
        """
        numbers = [int(row) for row in rows]
        if "table" not in self.__dict__ and isinstance(self._rows, ParquetColumns | PartedColumns):
            with self._whole():
                return self._rows.values(name, numbers)
        column = self.table[name]
        return [column[row].as_py() for row in numbers]

    def piece(self, start: int, stop: int) -> pa.Table:
        """Return all columns of the rows from one to before another; of a loaded manifest only that part is decoded.

        Raises:
            ManifestError: The file is damaged.
        """
        schema = FULL_SCHEMA if self.has_further else SCHEMA
        if "table" in self.__dict__ or not isinstance(self._rows, ParquetColumns | PartedColumns):
            return self.table.slice(start, stop - start).select(schema.names).cast(schema)
        columns = {name: self.values(name, range(start, stop)) for name in schema.names}
        return pa.table(columns, schema=schema)

    def groups(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of ``SCHEMA``, in pieces of rows in order; of a loaded manifest one row group at a time.

        Raises:
            ManifestError: The file is damaged.
        """
        rows = self._rows
        with self._whole():
            yield from [rows.select(list(names))] if isinstance(rows, pa.Table) else rows.groups(names)

    @property
    def has_further(self) -> bool:
        """True where some row may have further captions."""
        return "further" in self._rows.column_names

    def dress(self, row: int, caption: str) -> str:
        """Return a caption as a training gives it to the text encoder; here it stays as it is."""
        return caption

    def repeats_of(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return how often the pictures of some rows come in a round of a training: once."""
        return np.ones(len(rows), np.int64)

    def further(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> list[list[str]]:
        """Return the captions of some rows that may stand for ``caption``, in their order; none where there is but one.

        Raises:
            ManifestError: The file is damaged.
        """
        if not self.has_further:
            return [[] for _ in rows]
        return [self._captions_in(text, row) for row, text in zip(rows, self.values("further", rows), strict=True)]

    def _captions_in(self, text: Any, row: int) -> list[str]:
        try:
            captions: Any = json.loads(text) if text else []
        except (ValueError, TypeError, RecursionError):
            captions = None
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise ManifestError(
                f"{self.uri}: expected a JSON list of texts as further captions of row {row}, found {text!r:.80}; "
                "build the data set again"
            )
        return captions

    def place(self, row: int) -> tuple[str, int, int]:
        """Return the URI of the shard, offset and number of bytes of one picture.

        Raises:
            ManifestError: The shard would lie outside of the data set.
        """
        shards, offsets, sizes = self._places
        return self.shard_uri(shards[row].as_py()), int(offsets[row]), int(sizes[row])

    def shard_uri(self, path: str) -> str:
        """Return the URI of a shard, given its path in the table or the head: below the root, links resolved.

        Raises:
            ManifestError: The shard would lie elsewhere: a manifest from a stranger must not name our files.
        """
        if path not in self._shard_uris:
            uri = storage.join(self.root, path)
            try:
                is_inside = storage.inside([self.root])(uri) and ".." not in path.split("/")
            except ValueError:  # no file can have this name
                is_inside = False
            if not is_inside:
                raise ManifestError(
                    f"{self.uri}: expected shards below {self.root}, found {path[:300]!r}, which leads out of it "
                    "(outside_source); do not use this manifest, or build the data set again"
                )
            self._shard_uris[path] = uri
        return self._shard_uris[path]

    def read_image(self, row: int) -> bytes:
        """Return the picture's file: JPEG, PNG or WebP.

        Raises:
            ManifestError: The shard is shorter than the manifest says.
            StorageError: The shard is missing or unreadable.
        """
        shard, offset, size = self.place(row)
        data = storage.read_bytes(shard, start=offset, length=size)
        if len(data) != size:
            raise ManifestError(
                f"{shard}: expected {size} bytes at offset {offset}, found {len(data)}; build the data set again"
            )
        return data


def _parts_of(metadata: Mapping[bytes, bytes], uri: str) -> tuple[ManifestPart, ...]:
    """Return the files that hold the rows.

    Raises:
        ManifestError: There are none, or one would lie elsewhere: a manifest from a stranger must not name our files.
    """
    told = parse_json(metadata.get(_PARTS_KEY, b"[]"), where=uri)
    parts = tuple(ManifestPart.from_json(each, where=uri) for each in told) if isinstance(told, list) else ()
    if bad := [part.path for part in parts if not PART_PATH.fullmatch(part.path)]:
        raise ManifestError(f"{uri}: expected files of rows named {PART_PATH.pattern}, found {bad[0]!r:.200}")
    if not parts:
        raise ManifestError(f"{uri}: expected the files of its rows, found none named; build the data set again")
    return parts


def _file_of(
    head: ManifestHead, tables: Iterable[pa.Table], further: bool, parts: Sequence[ManifestPart] = ()
) -> memoryview:
    schema = FULL_SCHEMA if further else SCHEMA
    notes = {_HEAD_KEY: head.to_json()} | ({_PARTS_KEY: [part.to_json() for part in parts]} if parts else {})
    texts = {key: json.dumps(note, sort_keys=True, ensure_ascii=True).encode() for key, note in notes.items()}
    file = io.BytesIO()
    with pq.ParquetWriter(file, schema.with_metadata(texts), compression="zstd") as writer:
        for rows in whole_groups((with_further(table).select(schema.names) for table in tables), schema):
            writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
    return file.getbuffer()
