"""Write a store of latents and text features, part by part; each part is a pure function of its pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.loading.batches import load_images
from infinity.data.loading.captions import CaptionDraw
from infinity.scales import Resolution, ScaleSchedule
from infinity.text import TextEncoder
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.loaders.encoded import EncodedPart, LatentKind, TextHead, hash_of

CHUNK = 64
"""Pictures per pass of the encoder. The last digits of features may depend on it, so it never changes."""

_TEXTS = 64


@dataclass(frozen=True, slots=True)
class PartRange:
    """Pictures of one part of a store: a range of positions among the training split's pictures of a ratio."""

    aspect_ratio: float
    start: int
    stop: int


def part_ranges(manifest: Manifest, pictures: int) -> list[PartRange]:
    """Divide a data set's training split into parts of ``pictures`` pictures; the last of a ratio may have fewer."""
    found = []
    for ratio in sorted({float(value) for value in manifest.aspect_ratios[manifest.rows("train")]}):
        number = len(manifest.rows("train", ratio))
        found += [PartRange(ratio, start, min(number, start + pictures)) for start in range(0, number, pictures)]
    return found


@dataclass(frozen=True, slots=True)
class FrozenModels:
    """Frozen models that fill a store; None for what the store does not hold."""

    tokenizer: Tokenizer | None
    kind: LatentKind
    encoder: TextEncoder | None
    captions: CaptionDraw | None


def encode_part(
    manifest: Manifest, part_range: PartRange, resolution: Resolution, frozen: FrozenModels, root: str
) -> EncodedPart:
    """Compute and write the files of one part.

    Raises:
        ManifestError: A shard does not hold what the manifest says.
        StorageError: A shard cannot be read or a file not be written.
    """
    rows = [int(row) for row in manifest.rows("train", part_range.aspect_ratio)[part_range.start : part_range.stop]]
    latents = text = None
    if frozen.tokenizer is not None:
        schedule = resolution.schedule(part_range.aspect_ratio)
        pieces = [
            _latents(manifest, rows[first : first + CHUNK], schedule, frozen.tokenizer, frozen.kind)
            for first in range(0, len(rows), CHUNK)
        ]
        latents = _write(root, "latents", part_range, b"".join(pieces), len(rows))
    if frozen.encoder is not None and frozen.captions is not None:
        texts = sorted({text for row in rows for text in frozen.captions.possible(row)}, key=hash_of)
        text = _write(root, "text", part_range, _text_features(texts, frozen.encoder), len(texts))
    return EncodedPart(aspect_ratio=part_range.aspect_ratio, start=part_range.start, latents=latents, text=text)


@torch.no_grad()
def _latents(
    manifest: Manifest, rows: Sequence[int], schedule: ScaleSchedule, tokenizer: Tokenizer, kind: LatentKind
) -> bytes:
    images = torch.from_numpy(load_images(manifest, rows, schedule.image_size_px(tokenizer.config.stride_px)))
    features = tokenizer.encode(to_pixels(images, next(tokenizer.parameters()).device))
    if kind == "features":
        return features.float().contiguous().cpu().numpy().astype("<f4", copy=False).tobytes()
    bits = tokenizer.quantize(features, schedule).labels.bits_BLC
    return np.packbits(bits.flatten(1).cpu().numpy(), axis=1).tobytes()


def _text_features(texts: Sequence[str], encoder: TextEncoder) -> bytes:
    """Return the bytes of a file of features, in bfloat16 where that is lossless, as for a bfloat16 encoder."""
    features: list[Tensor] = []
    for start in range(0, len(texts), _TEXTS):
        features += [each.cpu() for each in encoder.encode(texts[start : start + _TEXTS]).unpack()]
    joined = torch.cat(features).float()
    halves = joined.to(torch.bfloat16)
    is_exact = torch.equal(halves.float(), joined)
    head = TextHead(
        channels=joined.shape[1],
        dtype=torch.bfloat16 if is_exact else torch.float32,
        places={hash_of(text): place for place, text in enumerate(texts)},
        edges=np.cumsum([0, *(len(each) for each in features)]),
    )
    numbers = (halves if is_exact else joined).contiguous()
    return head.to_bytes() + numbers.view(torch.uint8).numpy().tobytes()


def _write(root: str, what: str, part_range: PartRange, data: bytes, number: int) -> ShardInfo:
    """Write a file named by its content: two workers at once write two files or the same one, never a mixture."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = storage.join(what, f"{part_range.aspect_ratio:.3f}-{part_range.start:09d}-{sha256[:16]}.bin")
    storage.put_once(storage.join(root, path), data)
    return ShardInfo(path=path, num_bytes=len(data), num_samples=number, sha256=sha256)
