"""Pictures in tar shards, as webdataset packs them, for distances between sets of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.folders.archives import is_hidden
from infinity.data.sources.shard_files import opened_shard
from infinity.data.sources.webdataset import MAX_PICTURE_BYTES, SHARD_ENDINGS, members
from infinity.evaluation.pictures.files import is_picture
from infinity.evaluation.pictures.store import PictureError

_BLOCK_BYTES = 2**20


def is_shard(uri: str) -> bool:
    """Return whether a URI names a tar shard, by its ending."""
    return uri.lower().endswith(SHARD_ENDINGS)


def count_pictures(shards: Sequence[str]) -> int:
    """Return the number of pictures in shards, of which only headers are read.

    Raises:
        PictureError: A shard is damaged, or holds a link, or a name that leads out of it.
        StorageError: A shard cannot be read.
    """
    return sum(1 for _ in _pictures(shards, with_content=False))


def read_pictures(shards: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every picture, shard after shard, in the order of the shards.

    Raises:
        PictureError: A shard is damaged, or a picture is larger than 128 MiB.
        StorageError: A shard cannot be read.
    """
    return _pictures(shards, with_content=True)


def _pictures(shards: Sequence[str], *, with_content: bool) -> Iterator[tuple[str, bytes]]:
    for uri in shards:
        try:
            with opened_shard(uri, _BLOCK_BYTES) as reader:
                for member in members(reader):
                    if member.problem is not None:
                        raise member.problem
                    if not is_picture(member.name) or is_hidden(member.name.removeprefix("./")):
                        continue
                    if member.num_bytes > MAX_PICTURE_BYTES:
                        raise UnreadableError("file_too_large", f"{member.name}: {member.num_bytes:,} bytes")
                    data = reader.pread(member.offset, member.num_bytes) if with_content else b""
                    yield f"{uri}/{member.name}", data
        except UnreadableError as error:
            raise PictureError(f"{uri}: expected a tar file of pictures ({error}); repair it or take it out") from error
