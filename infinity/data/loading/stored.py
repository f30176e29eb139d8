"""The files of a data set's pictures, checked against the manifest, from a disk, a store or a cache of shards."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from infinity import storage
from infinity.config import Config
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.loading.cache import ShardCache
from infinity.ranges import Count, Natural
from infinity.storage import FileMissingError, StorageError
from infinity.storage.retries import DamagedError, Patience

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingConfig(Config):
    """Settings of reading. No setting changes what is trained on.

    Attributes:
        num_workers: Threads that read and decode; Pillow decodes and scales without the interpreter's lock.
        prefetch_steps: Steps that are prepared before they are asked for.
        memory_bytes: Memory for pictures that were decoded once, of a small data set that looks the same at every
            visit.
        cache_folder: A folder on this machine's disk for whole shards, shared by all processes; None to read every
            picture by itself. Right where the data lies in S3 and each machine reads a good part of every shard.
        cache_bytes: Largest size of that folder. Best is room for the shards of one window of every ratio
            (``OrderConfig``).
        cache_steps: Number of steps for which shards are fetched ahead.
        patience: Attempts and time-outs of a read.
    """

    num_workers: Count = 2
    prefetch_steps: Natural = 2
    memory_bytes: Natural = 2**30
    cache_folder: str | None = None
    cache_bytes: int = 50 * 2**30
    cache_steps: Natural = 32
    patience: Patience = field(default_factory=Patience)


class StoredPictures:
    """Files of pictures by row; safe to share among threads."""

    def __init__(self, manifest: Manifest, config: ReadingConfig) -> None:
        """Prepare to read the pictures of a data set.

        Raises:
            ManifestError: Shards shall be cached, but the manifest does not describe them.
            StorageError: The cache's folder cannot be made.
        """
        self._manifest, self._patience = manifest, config.patience
        self._is_remote = storage.local_path(manifest.uri) is None
        self._cache: ShardCache | None = None
        self._infos: dict[str, ShardInfo] = {}
        if config.cache_folder is not None:
            self._cache = ShardCache(config.cache_folder, config.cache_bytes, config.patience)
            self._infos = {manifest.shard_uri(info.path): info for info in manifest.head.shards}

    @property
    def caches(self) -> bool:
        """True where whole shards are kept on this machine."""
        return self._cache is not None

    def read(self, row: int) -> bytes:
        """Return the picture's file, as the manifest names it.

        Raises:
            UnreachableError: The store did not give it after all attempts.
            DamagedError: The store holds something else.
            StorageError: The shard is missing, or the cache has no room for it.
        """
        uri, offset, size = self._manifest.place(row)
        for left in (1, 0):
            data = self._bytes(uri, offset, size)
            if self._is_right(row, data, size):
                return data
            if self._cache is not None:
                self._cache.forget(self._info(uri))  # the cached copy is damaged: it was right when it was fetched
            if not left:
                break
        raise DamagedError(
            f"{uri}: the {size:,} bytes from offset {offset:,} are not the picture that {self._manifest.uri} names in "
            f"row {row}, twice; the shard is damaged: restore it or build the data set again"
        )

    def fetch(self, uri: str) -> None:
        """Bring a shard into the cache.

        Raises:
            StorageError: The shard is missing or out of reach, or the cache has no room for it.
        """
        if self._cache is not None:
            self._cache.open(uri, self._info(uri)).close()

    def shards(self, rows: Sequence[int]) -> set[str]:
        """Return URIs of the shards that hold these rows."""
        return {self._manifest.shard_uri(path) for path in set(self._manifest.values("shard", rows))}

    def _bytes(self, uri: str, offset: int, size: int) -> bytes:
        if self._cache is not None:
            with self._cache.open(uri, self._info(uri)) as file:
                return os.pread(file.fileno(), size, offset)
        what = f"the {size:,} bytes from offset {offset:,}"
        if not self._is_remote:  # a disk answers or fails at once; a thread per picture would not pay
            try:
                return storage.read_bytes(uri, start=offset, length=size)
            except FileMissingError:
                raise
            except StorageError as error:
                logger.warning("%s; trying again", error)
        return self._patience.read(uri, what, lambda: storage.read_bytes(uri, start=offset, length=size))

    def _is_right(self, row: int, data: bytes, size: int) -> bool:
        return len(data) == size and [hashlib.sha256(data).hexdigest()] == self._manifest.values("sha256", [row])

    def _info(self, uri: str) -> ShardInfo:
        info = self._infos.get(uri)
        if info is None:
            raise ManifestError(
                f"{self._manifest.uri}: expected size and checksum of {uri} in its head, found none; only described "
                "shards can be cached"
            )
        return info
