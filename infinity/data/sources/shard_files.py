"""The bytes of a shard, whether it is compressed or not: by its content, since names say little.

A compressed shard is unpacked into a temporary file of this machine, which goes when it has been read.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast

import pyarrow as pa

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.storage.ranges import RangeReader

MAX_RATIO = 64
"""A shard that unpacks to more than this many times its size plus ``FREE_BYTES`` is a bomb: no picture shrinks so."""

FREE_BYTES = 64 * 2**20

_CHUNK_BYTES = 2**20
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error, pa.ArrowException)


class ShardBytes(Protocol):
    """A file that is read range by range."""

    size: int

    def pread(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer at the end."""
        ...


class _Unpacked:
    """Bytes of a shard that was unpacked into a temporary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)

    def pread(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)


@contextmanager
def opened_shard(uri: str, block_bytes: int) -> Iterator[ShardBytes]:
    """Open a shard for reading, unpacked if it is compressed.

    Args:
        uri: Place of the shard.
        block_bytes: Bytes that are read at once.

    Raises:
        UnreadableError: The shard is compressed and unpacks to far too much.
        StorageError: The shard cannot be read, or no space is left to unpack it.
    """
    reader = RangeReader(uri, block_bytes)
    start = reader.pread(0, 6)
    kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")
    if not kind:
        yield reader
        return
    with tempfile.TemporaryFile(prefix="inf-shard-") as file:
        # The walk over the shard reports what a break takes away.
        _unpack(kind, reader, cast(BinaryIO, file), MAX_RATIO * reader.size + FREE_BYTES)
        yield _Unpacked(cast(BinaryIO, file))


def unpack(uri: str, file: BinaryIO, max_bytes: int) -> None:
    """Unpack a whole file into another; one that is not packed, whatever its name, is copied.

    Raises:
        UnreadableError: It is cut off or damaged, or unpacks to more than ``max_bytes``.
        StorageError: It cannot be read, or no space is left to unpack it.
    """
    reader = RangeReader(uri, _CHUNK_BYTES)
    start = reader.pread(0, 6)
    kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")
    if (error := _unpack(kind, reader, file, max_bytes)) is not None:
        raise UnreadableError("bad_file", f"cut off or damaged {kind}: {error}")


def _unpack(kind: str, reader: RangeReader, file: BinaryIO, limit: int) -> Exception | None:
    """Unpack as far as possible, and return what ended it before the end."""
    written = 0
    stream = _stream(kind, reader)
    while True:
        try:
            piece = stream.read1(_CHUNK_BYTES)  # what there is, so that nothing before a break is lost
        except storage.StorageError:
            raise
        except _BROKEN as error:
            return error
        if not piece:
            return None
        written += len(piece)
        if written > limit:
            raise UnreadableError(
                "bad_file", f"{reader.size:,} bytes of {kind or 'text'} unpack to more than {limit:,}"
            )
        try:
            file.write(piece)
        except OSError as error:
            raise storage.StorageError(f"cannot unpack into {tempfile.gettempdir()}: {error.strerror}") from error


def _stream(kind: str, reader: RangeReader) -> io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    source = io.BufferedReader(reader, _CHUNK_BYTES)
    if not kind:
        return cast(io.BufferedReader, source)
    if kind == "gzip":
        return gzip.GzipFile(fileobj=source)
    if kind == "bzip2":
        return bz2.BZ2File(source)
    if kind == "xz":
        return lzma.LZMAFile(source)
    stream = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")
    return io.BufferedReader(cast(io.RawIOBase, stream), 2**16)
