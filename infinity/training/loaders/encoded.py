"""Read a store of latents and text features, which frozen models computed for a data set.

A part of the store holds consecutive pictures of one aspect ratio: a file of latents with records of one length, and a
file of text features, found by a checksum of the text. The index lists the files with their checksums. It also names
everything that the numbers depend on, and a training with other inputs is refused.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from infinity import storage
from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.loading.batches import BatchIds
from infinity.data.loading.cache import ShardCache
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.data.loading.stored import ReadingConfig
from infinity.scales import Resolution, ScaleSchedule
from infinity.storage.retries import DamagedError
from infinity.text import TextCondition, TextConfig
from infinity.tokenizer.tokenizer import TokenizerConfig

LatentKind = Literal["features", "bits"]
"""Float32 encoder features, which bitwise self-correction needs to draw wrong bits, or the bits of each picture."""

FORMAT = 1
HASH_BYTES = 16
HEAD = struct.Struct("<QQQ")  # texts, channels, whether bfloat16


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPart(Config):
    """Files of some consecutive pictures of one aspect ratio.

    Attributes:
        aspect_ratio: Aspect ratio of the pictures, height over width.
        start: Position of the first among the training split's pictures of the ratio.
        latents: File of latents, or None.
        text: File of text features, or None.
    """

    aspect_ratio: float
    start: int
    latents: ShardInfo | None
    text: ShardInfo | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedIndex(Config):
    """Contents of a store, and the inputs that its numbers depend on.

    Attributes:
        manifest: Digest of the data set's manifest.
        resolution: Grids of every ratio; pictures are fitted to them with a centre crop.
        tokenizer: Digest of the tokenizer's checkpoint; None without latents.
        text_encoder: Text encoder; None without text features.
        captions: Settings of the captions; every caption that they can draw was encoded.
        parts: Parts, sorted by ratio and start.
        format: Version of the file format.
    """

    manifest: str
    resolution: Resolution
    tokenizer: str | None
    latents: LatentKind
    text_encoder: TextConfig | None
    captions: CaptionConfig
    parts: tuple[EncodedPart, ...]
    format: int = FORMAT


class EncodedFiles:
    """Read bytes of a store's files; each file is compared with its checksum before its first use."""

    def __init__(self, root: str, reading: ReadingConfig) -> None:
        """Prepare.

        Args:
            root: URI of the store.
            reading: Settings of the cache; a store in S3 needs a cache folder.

        Raises:
            ValueError: A store in S3 without a cache folder.
        """
        self._root = root
        self._cache: ShardCache | None = None
        self._checked: set[str] = set()
        if reading.cache_folder is not None:
            self._cache = ShardCache(reading.cache_folder, reading.cache_bytes, reading.patience)
        elif storage.local_path(root) is None:
            raise ValueError(f"{root}: a store of latents in S3 is read through a cache; set reading.cache_folder")

    def read(self, info: ShardInfo, start: int, length: int) -> bytes:
        """Read ``length`` bytes of a file from ``start`` on.

        Raises:
            StorageError: The file is missing, damaged, or cannot be read.
        """
        uri = storage.join(self._root, info.path)
        if self._cache is not None:
            with self._cache.open(uri, info) as file:
                file.seek(start)
                return file.read(length)
        if uri not in self._checked:
            if (found := storage.sha256(uri)) != info.sha256:
                raise DamagedError(f"{uri}: expected the checksum {info.sha256}, found {found}; encode again")
            self._checked.add(uri)
        return storage.read_bytes(uri, start=start, length=length)


class Places:
    """Finds the part of a picture, and the picture's place in it."""

    def __init__(self, manifest: Manifest, index: EncodedIndex) -> None:
        self._parts: dict[float, list[EncodedPart]] = {}
        for part in index.parts:
            self._parts.setdefault(part.aspect_ratio, []).append(part)
        self._rows = {ratio: manifest.rows("train", ratio) for ratio in self._parts}
        self._starts = {ratio: np.array([part.start for part in parts]) for ratio, parts in self._parts.items()}

    def of(self, ids: BatchIds) -> list[tuple[EncodedPart, int]]:
        """Return part and place of every picture of a batch."""
        ratio = ids.aspect_ratio
        places = np.searchsorted(self._rows[ratio], np.asarray(ids.rows))
        which = np.searchsorted(self._starts[ratio], places, side="right") - 1
        parts = [self._parts[ratio][number] for number in which]
        return [(part, int(place) - part.start) for part, place in zip(parts, places, strict=True)]


class EncodedLatents:
    """Reads latents of pictures from a store."""

    def __init__(self, manifest: Manifest, index: EncodedIndex, files: EncodedFiles, config: TokenizerConfig) -> None:
        """Prepare.

        Args:
            manifest: Manifest of the data set.
            index: Index of the store, already checked to belong to the training.
        """
        self._places, self._index, self._files, self._config = Places(manifest, index), index, files, config

    def read(self, ids: BatchIds) -> Tensor:
        """Read features (B, C, H, W), float32, or bits (B, L, C), bool, by the kind of the store.

        Raises:
            StorageError: A file is missing, damaged, or cannot be read.
        """
        kind = self._index.latents
        shape = latent_shape(kind, self._index.resolution.schedule(ids.aspect_ratio), self._config)
        number = math.prod(shape)
        size = -(-number // 8) if kind == "bits" else 4 * number
        records = bytearray()
        for part, place in self._places.of(ids):
            assert part.latents is not None, "a store with latents has them in every part"
            records += self._files.read(part.latents, place * size, size)
        if kind == "features":
            return torch.from_numpy(np.frombuffer(records, np.float32)).view(-1, *shape)
        packed = np.frombuffer(records, np.uint8).reshape(-1, size)
        return torch.from_numpy(np.unpackbits(packed, axis=1, count=number).view(bool)).view(-1, *shape)


class EncodedCaptions:
    """Reads features of captions from a store."""

    def __init__(self, manifest: Manifest, index: EncodedIndex, files: EncodedFiles, draw: CaptionDraw) -> None:
        """Prepare.

        Args:
            manifest: Manifest of the data set.
            index: Index of the store, already checked to belong to the training.
            draw: Choice of the caption for each visit of a picture.
        """
        self._places, self._files, self._draw = Places(manifest, index), files, draw
        self._head = lru_cache(maxsize=256)(self._read_head)

    def __call__(self, ids: BatchIds) -> TextCondition:
        """Read the features, float32, of the captions drawn for these visits.

        Raises:
            StorageError: A file is missing, damaged, or cannot be read.
        """
        captions = self._draw(ids.rows, ids.visits)
        parts = [part.text for part, _ in self._places.of(ids)]
        return TextCondition.pack([self._features(part, text) for part, text in zip(parts, captions, strict=True)])

    def _features(self, info: ShardInfo | None, text: str) -> Float[Tensor, "t Dt"]:
        assert info is not None, "a store with text features has them in every part"
        head = self._head(info)
        place = head.places[hash_of(text)]
        first, last = head.edges[place : place + 2]
        row = head.channels * (2 if head.dtype is torch.bfloat16 else 4)
        data = self._files.read(info, head.num_bytes + int(first) * row, int(last - first) * row)
        return torch.frombuffer(bytearray(data), dtype=head.dtype).view(-1, head.channels).float()

    def _read_head(self, info: ShardInfo) -> TextHead:
        number = TextHead.number(self._files.read(info, 0, HEAD.size))
        return TextHead.parse(self._files.read(info, 0, TextHead.size(number)))


@dataclass(frozen=True, slots=True, eq=False)
class TextHead:
    """Header of a file of text features.

    Attributes:
        channels: Channels per token.
        dtype: Float32, or bfloat16 where it holds the same numbers.
        places: Number of each text, by checksum.
        edges: First token of each text, and last the number of all tokens.
    """

    channels: int
    dtype: torch.dtype
    places: Mapping[bytes, int]
    edges: Int[np.ndarray, " n"]

    @property
    def num_bytes(self) -> int:
        """Offset of the features, in bytes."""
        return self.size(len(self.places))

    @staticmethod
    def size(number: int) -> int:
        """Return the bytes of a header for ``number`` texts."""
        return HEAD.size + number * HASH_BYTES + 8 * (number + 1)

    @staticmethod
    def number(data: bytes) -> int:
        """Return the number of texts in a file."""
        return int(HEAD.unpack_from(data)[0])

    @classmethod
    def parse(cls, data: bytes) -> TextHead:
        """Parse the bytes of a header."""
        number, channels, is_half = HEAD.unpack_from(data)
        hashes = data[HEAD.size : HEAD.size + number * HASH_BYTES]
        places = {hashes[i * HASH_BYTES : (i + 1) * HASH_BYTES]: i for i in range(number)}
        edges = np.frombuffer(data, np.int64, offset=HEAD.size + len(hashes), count=number + 1)
        return cls(channels, torch.bfloat16 if is_half else torch.float32, places, edges)

    def to_bytes(self) -> bytes:
        """Return the bytes that ``parse`` reads."""
        head = HEAD.pack(len(self.places), self.channels, self.dtype is torch.bfloat16)
        return head + b"".join(self.places) + self.edges.astype(np.int64).tobytes()


def hash_of(text: str) -> bytes:
    """Return the checksum that names a text in a store."""
    return hashlib.sha256(text.encode()).digest()[:HASH_BYTES]


def latent_shape(kind: LatentKind, schedule: ScaleSchedule, config: TokenizerConfig) -> tuple[int, ...]:
    """Return the shape of one picture's record."""
    if kind == "bits":
        return schedule.num_tokens, config.token_bits
    return config.num_bits, *(schedule.unfolded() if config.fold else schedule).last_grid
