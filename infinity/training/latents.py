"""Feeds of latents: what frozen tokenizer and text encoder make of a batch, computed once where there is room."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from infinity.data.batches import BatchIds, BatchPlan, ImageCache, load_images
from infinity.data.manifest import Manifest
from infinity.scales import Resolution, ScaleSchedule
from infinity.text import TextCondition, TextEncoder
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.parallel import Team
from infinity.training.pictures import Ahead, Names, left_over, shares

logger = logging.getLogger(__name__)

_CHUNK = 64

Told = Callable[[float, str], None]
"""Who hears how far the preparation is: share of the work and a sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class LatentBatch:
    """Pictures of one aspect ratio as a tokenizer sees them, with their captions.

    Attributes:
        keys: Names of the pictures.
        schedule: Their grids.
        features_BCHW: What the frozen encoder makes of them, float32.
        text: Features of their captions.
    """

    keys: tuple[str, ...]
    schedule: ScaleSchedule
    features_BCHW: Float[Tensor, "B C H W"]
    text: TextCondition

    def without(self, keys: frozenset[str]) -> LatentBatch | None:
        """The batch without some of its pictures; None if none is left."""
        kept = left_over(self.keys, keys)
        if len(kept) == len(self.keys):
            return self
        if not kept:
            return None
        return LatentBatch(
            tuple(self.keys[i] for i in kept), self.schedule, self.features_BCHW[kept], self.text.select(kept)
        )


class CaptionFeatures:
    """Text features of captions; each distinct one is encoded once while there is room."""

    def __init__(self, encoder: TextEncoder, max_bytes: int = 2**30) -> None:
        self._encoder, self._room_bytes = encoder, max_bytes
        self._known: dict[str, Float[Tensor, "t Dt"]] = {}

    def __call__(self, captions: Sequence[str]) -> TextCondition:
        """Features of the captions, in their order."""
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


class LatentFeed:
    """This worker's parts of every step's batch, as latents.

    The encoder's features of a small data set are computed before the first step and kept; those of a large one are
    computed at every step from pictures that a thread reads ahead.
    """

    def __init__(
        self,
        manifest: Manifest,
        plan: BatchPlan,
        resolution: Resolution,
        tokenizer: Tokenizer,
        captions: CaptionFeatures,
        *,
        num_steps: int,
        team: Team,
        num_parts: int = 1,
        cache_bytes: int = 2**31,
        told: Told = lambda _share, _message: None,
    ) -> None:
        """Prepare, which may mean to encode the whole training split.

        Args:
            manifest: The data set.
            plan: Which rows make up which step, of the split "train".
            resolution: Grids of every aspect ratio.
            tokenizer: Frozen, on the device that it shall run on.
            captions: Features of captions.
            num_steps: Steps of the run.
            team: Whose member this worker is; the members share the encoding.
            num_parts: Parts of a batch, over all workers.
            cache_bytes: Memory for features, and again for pictures where the features do not fit.
            told: Hears how far the encoding is.
        """
        self._manifest, self._plan, self._resolution = manifest, plan, resolution
        self._tokenizer, self._captions, self._team = tokenizer, captions, team
        self._num_parts = num_parts
        self._names = Names(manifest)
        self._all_captions: list[str] = manifest.table["caption"].to_pylist()
        self._features: dict[float, tuple[dict[int, int], Tensor]] = {}
        needed = sum(len(manifest.rows("train", r)) * self._num_floats(r) * 4 for r in self._ratios())
        self._pictures: Ahead[list[Tensor]] | None = None
        if needed <= cache_bytes:
            self._encode_all(told)
        else:
            logger.info("features of %.1f GB are computed anew at every step", needed / 1e9)
            self._images = ImageCache(manifest, cache_bytes)
            self._pictures = Ahead(self._read, num_steps)

    def __call__(self, step: int) -> Sequence[LatentBatch]:
        """The worker's parts of batch number ``step``, from 0."""
        parts = shares(self._plan.batch(step), self._team, self._num_parts)
        if self._pictures is None:
            features = [self._remembered(ids) for ids in parts]
        else:
            features = [self._encode(images) for images in self._pictures(step)]
        return [self._join(ids, part) for ids, part in zip(parts, features, strict=True)]

    def close(self) -> None:
        """End the reading ahead."""
        if self._pictures is not None:
            self._pictures.close()

    def usage(self, max_pictures: int = 256) -> Float[Tensor, "S C"]:
        """How often each bit is set at each scale, over some pictures of the commonest aspect ratio."""
        ratio = max(self._ratios(), key=lambda r: len(self._manifest.rows("train", r)))
        rows = tuple(int(row) for row in self._manifest.rows("train", ratio)[:max_pictures])
        schedule = self._resolution.schedule(ratio)
        if self._pictures is None:
            features = self._remembered(BatchIds(ratio, rows))
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
        size_px = self._resolution.schedule(ids.aspect_ratio).image_size_px(self._tokenizer.config.stride_px)
        if self._pictures is None:
            return torch.from_numpy(load_images(self._manifest, ids.rows, size_px))
        return torch.from_numpy(self._images.load(ids.rows, size_px))

    def _read(self, step: int) -> list[Tensor]:
        return [self._load(ids) for ids in shares(self._plan.batch(step), self._team, self._num_parts)]

    @torch.no_grad()
    def _encode(self, images_BHWC: Tensor) -> Tensor:
        return self._tokenizer.encode(to_pixels(images_BHWC, self._device))

    def _remembered(self, ids: BatchIds) -> Tensor:
        places, features = self._features[ids.aspect_ratio]
        return features[torch.tensor([places[row] for row in ids.rows])]

    def _join(self, ids: BatchIds, features: Tensor) -> LatentBatch:
        text = self._captions([self._all_captions[row] for row in ids.rows])
        return LatentBatch(self._names.of(ids.rows), self._resolution.schedule(ids.aspect_ratio), features, text)

    def _encode_all(self, told: Told) -> None:
        """Each member encodes every so-manieth chunk; the sum of what all have, zero elsewhere, is everything."""
        num_done, num_all = 0, len(self._manifest.rows("train"))
        for ratio in self._ratios():
            rows = [int(row) for row in self._manifest.rows("train", ratio)]
            features: Tensor | None = None
            for number, start in enumerate(range(0, len(rows), _CHUNK)):
                chunk = rows[start : start + _CHUNK]
                if number % self._team.size == self._team.rank:
                    encoded = self._encode(self._load(BatchIds(ratio, tuple(chunk))))
                    if features is None:
                        features = encoded.new_zeros(len(rows), *encoded.shape[1:])
                    features[start : start + len(chunk)] = encoded
                num_done += len(chunk)
                told(num_done / num_all, f"encoded {num_done} of {num_all} pictures")
            if features is None:  # fewer chunks than members
                shape = self._encode(self._load(BatchIds(ratio, tuple(rows[:1])))).shape[1:]
                features = torch.zeros(len(rows), *shape, device=self._device)
            places = {row: place for place, row in enumerate(rows)}
            self._features[ratio] = places, self._team.sum(features).contiguous().cpu()
