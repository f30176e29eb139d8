"""Data loader of latents and text features, which a frozen tokenizer and text encoder compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.bits import BitLabels
from infinity.data.loading.batches import BatchIds
from infinity.data.loading.captions import CaptionDraw
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition, TextEncoder
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.loaders.encoded import EncodedLatents
from infinity.training.loaders.pictures import LoaderConfig, Prefetcher, left_over

logger = logging.getLogger(__name__)

_CHUNK = 64

OnProgress = Callable[[float, str], None]
"""Progress of the preparation: a callback with the fraction done and a sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class LatentBatch:
    """Latents of pictures of one aspect ratio, with features of their captions.

    Attributes:
        latents: Encoder features, float32, or bits, bool; bits are enough where none are flipped.
    """

    keys: tuple[str, ...]
    schedule: ScaleSchedule
    latents: Float[Tensor, "B C H W"] | Bool[Tensor, "B L C"]
    text: TextCondition

    @property
    def num_tokens(self) -> int:
        """Number of image tokens of all pictures together."""
        return len(self.keys) * self.schedule.num_tokens

    def without(self, keys: frozenset[str]) -> LatentBatch | None:
        """Return the batch without these pictures, or None if none is left."""
        kept = left_over(self.keys, keys)
        if len(kept) == len(self.keys):
            return self
        if not kept:
            return None
        return LatentBatch(tuple(self.keys[i] for i in kept), self.schedule, self.latents[kept], self.text.select(kept))

    def blank(self) -> LatentBatch:
        """Return as many nameless pictures with zeros for all features."""
        text = TextCondition(torch.zeros_like(self.text.features_TD), self.text.lengths)
        return LatentBatch(("",) * len(self.keys), self.schedule, torch.zeros_like(self.latents), text)


class CaptionEncoder(Protocol):
    """Gives the features of the captions of a batch."""

    def __call__(self, ids: BatchIds) -> TextCondition:
        """Return the features of one caption per picture, in order of the pictures."""
        ...


class CaptionFeatures:
    """Encodes captions with a text encoder, and caches the features of distinct texts up to ``max_bytes``."""

    def __init__(self, draw: CaptionDraw, encoder: TextEncoder, max_bytes: int = 2**30) -> None:
        self._draw, self._encoder, self._room_bytes = draw, encoder, max_bytes
        self._known: dict[str, Float[Tensor, "t Dt"]] = {}

    def __call__(self, ids: BatchIds) -> TextCondition:
        """Return the features of the captions drawn for these visits."""
        captions = self._draw(ids.rows, ids.visits)
        known = self._known
        new = [caption for caption in dict.fromkeys(captions) if caption not in known]
        if not new:
            return TextCondition.pack([known[caption] for caption in captions])
        # A caption's features do not depend on what else is encoded with it, so a cache changes no number.
        fresh = dict(zip(new, (f.clone() for f in self._encoder.encode(new).unpack()), strict=True))
        packed = TextCondition.pack([known[c] if c in known else fresh[c] for c in captions])
        for caption, features in fresh.items():
            num_bytes = features.numel() * features.element_size()
            if num_bytes <= self._room_bytes:
                known[caption] = features
                self._room_bytes -= num_bytes
        return packed


class LatentLoader:
    """Data loader of this worker's micro-batches of latents.

    Features come from a store if one is given (``encoded``). Otherwise they are computed before the first step and kept
    if the data set is small and never augmented, or else computed at every step from prefetched pictures. All three
    ways give the same training.
    """

    def __init__(
        self,
        config: LoaderConfig,
        tokenizer: Tokenizer,
        captions: CaptionEncoder,
        *,
        cache_bytes: int = 2**31,
        encoded: EncodedLatents | None = None,
        on_progress: OnProgress = lambda _share, _message: None,
    ) -> None:
        """Prepare; this may encode the whole training split.

        Args:
            config: Settings of the loader, over the split "train"; the processes of its group share the encoding.
            tokenizer: Frozen tokenizer, on its device.
            captions: Source of the captions' features.
            cache_bytes: Largest memory for cached features.
            encoded: Store of the pictures' latents, or None.
            on_progress: Called with the progress of the encoding.
        """
        self._config, self._manifest, self._resolution = config, config.manifest, config.resolution
        self._tokenizer, self._captions = tokenizer, captions
        self._features: dict[float, tuple[dict[int, int], Tensor]] = {}
        self._ahead: Prefetcher[list[Tensor]] | None = None
        self._encoded = encoded
        self._pictures = config.stream(tokenizer.config.stride_px)
        if encoded is not None:
            self._ahead = Prefetcher(
                lambda step: [encoded.read(ids) for ids in config.micro_batches(step)], config.num_steps
            )
            return
        needed = sum(len(self._manifest.rows("train", r)) * self._num_floats(r) * 4 for r in self._ratios())
        if needed <= cache_bytes and config.augment.changes_nothing:
            self._encode_all(on_progress)
        else:
            logger.info("features of %.1f GB are not cached but computed at every step", needed / 1e9)

    def __call__(self, step: int) -> Sequence[LatentBatch]:
        """Return this worker's micro-batches of batch number ``step``, from 0."""
        micro_batches = self._config.micro_batches(step)
        if self._ahead is not None:
            features = self._ahead(step)
        elif self._features:
            features = [self._cached(ids) for ids in micro_batches]
        else:
            features = [self._encode(torch.from_numpy(batch.images)) for batch in self._pictures(step)]
        return [self._join(ids, each) for ids, each in zip(micro_batches, features, strict=True)]

    def close(self) -> None:
        """End the prefetching threads."""
        self._pictures.close()
        if self._ahead is not None:
            self._ahead.close()

    def usage(self, max_pictures: int = 256) -> Float[Tensor, "K C"]:
        """Return how often each bit is set at each scale, 0 to 1, over pictures of the commonest aspect ratio."""
        ratio = max(self._ratios(), key=lambda r: len(self._manifest.rows("train", r)))
        rows = tuple(int(row) for row in self._manifest.rows("train", ratio)[:max_pictures])
        schedule = self._resolution.schedule(ratio)
        if self._encoded is not None:
            features = self._encoded.read(BatchIds(ratio, rows))
            if features.dtype == torch.bool:
                scales = BitLabels(schedule, features)
                return torch.stack([scales.scale(k).float().mean(dim=(0, 1, 2)) for k in range(schedule.num_scales)])
        elif self._features:
            features = self._cached(BatchIds(ratio, rows))
        else:
            chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
            features = torch.cat([self._encode(self._load(BatchIds(ratio, chunk))) for chunk in chunks])
        labels = self._tokenizer.quantize(features.to(self._device), schedule).labels
        return torch.stack([labels.scale(k).float().mean(dim=(0, 1, 2)) for k in range(schedule.num_scales)]).cpu()

    @property
    def _device(self) -> torch.device:
        return next(self._tokenizer.parameters()).device

    def _ratios(self) -> list[float]:
        rows = self._manifest.rows("train")
        return sorted({float(value) for value in self._manifest.aspect_ratios[rows]})

    def _num_floats(self, ratio: float) -> int:
        rows, columns = self._resolution.schedule(ratio).last_grid
        return rows * columns * self._tokenizer.config.token_bits

    def _load(self, ids: BatchIds) -> Tensor:
        return torch.from_numpy(self._pictures.load(ids))

    @torch.no_grad()
    def _encode(self, images_BHWC: Tensor) -> Tensor:
        return self._tokenizer.encode(to_pixels(images_BHWC, self._device))

    def _cached(self, ids: BatchIds) -> Tensor:
        places, features = self._features[ids.aspect_ratio]
        return features[torch.tensor([places[row] for row in ids.rows])]

    def _join(self, ids: BatchIds, features: Tensor) -> LatentBatch:
        text = self._captions(ids)
        names = tuple(self._manifest.values("source", ids.rows))
        return LatentBatch(names, self._resolution.schedule(ids.aspect_ratio), features, text)

    def _encode_all(self, on_progress: OnProgress) -> None:
        """Encode the training split: process r of n takes chunks r, r + n, ...; the sum over the processes has all."""
        num_done, num_all = 0, len(self._manifest.rows("train"))
        for ratio in self._ratios():
            rows = [int(row) for row in self._manifest.rows("train", ratio)]
            features: Tensor | None = None
            for number, start in enumerate(range(0, len(rows), _CHUNK)):
                chunk = rows[start : start + _CHUNK]
                if number % self._config.group.size == self._config.group.rank:
                    encoded = self._encode(self._load(BatchIds(ratio, tuple(chunk))))
                    if features is None:
                        features = encoded.new_zeros(len(rows), *encoded.shape[1:])
                    features[start : start + len(chunk)] = encoded
                num_done += len(chunk)
                on_progress(num_done / num_all, f"encoded {num_done} of {num_all} pictures")
            if features is None:  # fewer chunks than processes; this one encodes a picture only for the shape
                shape = self._encode(self._load(BatchIds(ratio, tuple(rows[:1])))).shape[1:]
                features = torch.zeros(len(rows), *shape, device=self._device)
            places = {row: place for place, row in enumerate(rows)}
            self._features[ratio] = places, self._config.group.sum(features).contiguous().cpu()
