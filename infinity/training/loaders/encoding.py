"""Filling a store of latents and text features: one part after the other, each a pure function of its pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infinity import storage
from infinity.data.dataset.manifest import Manifest, ShardInfo
from infinity.data.loading.batches import load_images
from infinity.data.loading.captions import CaptionDraw
from infinity.scales import Resolution, ScaleSchedule
from infinity.text import TextEncoder
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.loaders.encoded import EncodedPart, LatentKind, TextHead, hash_of

CHUNK = 64
"""Pictures that go through the encoder together; a number of the encoder may depend on it in its last digits."""

_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Stretch:
    """Pictures of one part: ratio, places among the training split's pictures of the ratio."""

    aspect_ratio: float
    start: int
    stop: int


def stretches(manifest: Manifest, pictures: int) -> list[Stretch]:
    """The parts of a data set's training split, in order; each of so many pictures or, at the end of a ratio, fewer."""
    found = []
    for ratio in sorted({float(value) for value in manifest.aspect_ratios[manifest.rows("train")]}):
        number = len(manifest.rows("train", ratio))
        found += [Stretch(ratio, start, min(number, start + pictures)) for start in range(0, number, pictures)]
    return found


@dataclass(frozen=True, slots=True)
class Frozen:
    """The models that fill a store; None for what it shall not hold."""

    tokenizer: Tokenizer | None
    kind: LatentKind
    encoder: TextEncoder | None
    captions: CaptionDraw | None


def encode_part(manifest: Manifest, stretch: Stretch, resolution: Resolution, frozen: Frozen, root: str) -> EncodedPart:
    """Compute and write the files of one part.

    Raises:
        ManifestError: A shard does not hold what the manifest says.
        StorageError: A shard cannot be read or a file not be written.
    """
    rows = [int(row) for row in manifest.rows("train", stretch.aspect_ratio)[stretch.start : stretch.stop]]
    latents = text = None
    if frozen.tokenizer is not None:
        schedule = resolution.schedule(stretch.aspect_ratio)
        pieces = [
            _latents(manifest, rows[first : first + CHUNK], schedule, frozen.tokenizer, frozen.kind)
            for first in range(0, len(rows), CHUNK)
        ]
        latents = _write(root, "latents", stretch, b"".join(pieces), len(rows))
    if frozen.encoder is not None and frozen.captions is not None:
        texts = sorted({text for row in rows for text in frozen.captions.possible(row)}, key=hash_of)
        text = _write(root, "text", stretch, _text_features(texts, frozen.encoder), len(texts))
    return EncodedPart(aspect_ratio=stretch.aspect_ratio, start=stretch.start, latents=latents, text=text)


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
    """A file of features: bfloat16 where no number changes by that, as after an encoder that computes in it."""
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


def _write(root: str, what: str, stretch: Stretch, data: bytes, number: int) -> ShardInfo:
    """Named by content: what two workers write at once is two files or the same one, never a mixture."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = storage.join(what, f"{stretch.aspect_ratio:.3f}-{stretch.start:09d}-{sha256[:16]}.bin")
    storage.put_once(storage.join(root, path), data)
    return ShardInfo(path=path, num_bytes=len(data), num_samples=number, sha256=sha256)
