"""The steps that need to know all kept pictures, on small facts only: splits, and which shard holds what.

Everything here is a pure function of the candidates in source order: it does not matter who measured what when.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from infinity.data.manifest import Split
from infinity.scales import nearest_aspect_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One shard to write: its path below the data set's folder, and its samples in order (columns of FACTS)."""

    path: str
    split: Split
    aspect_ratio: float
    samples: pa.Table


def choose_validation(pixels: Sequence[bytes], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which pictures are set aside for validation: about ``share`` of all, at least one if that leaves others.

    Pictures come in an order given by a hash of seed and content, and equal pictures go together. So adding pictures to
    a source moves few between the splits, and no picture has an equal in the other split. Pictures are not grouped by
    likeness or caption: in a set with few captions that would set aside whole kinds of pictures.
    """
    total = len(pixels)
    wanted = min(max(1, round(share * total)), total - 1) if share > 0 else 0
    sizes = Counter(pixels)
    chosen: set[bytes] = set()
    for value in sorted(sizes, key=lambda value: hashlib.sha256(f"{seed}:".encode() + value).digest()):
        if sizes[value] <= wanted:
            chosen.add(value)
            wanted -= sizes[value]
    return np.array([value in chosen for value in pixels], bool)


def plan_shards(
    candidates: pa.Table, *, aspect_ratios: Sequence[float], validation_share: float, samples_per_shard: int, seed: int
) -> tuple[ShardPlan, ...]:
    """Deal the kept pictures to shards: by split, then by nearest aspect ratio, then in source order."""
    ratios = _nearest_ratios(candidates, aspect_ratios)
    validation = choose_validation(candidates["pixels"].to_pylist(), validation_share, seed)
    plans: list[ShardPlan] = []
    splits: tuple[Split, Split] = ("train", "validation")
    for split in splits:
        for ratio in sorted(aspect_ratios):
            rows = np.flatnonzero((validation == (split == "validation")) & (ratios == ratio))
            for number, start in enumerate(range(0, len(rows), samples_per_shard)):
                path = f"shards/{split}-{ratio:.3f}-{number:06d}.tar"
                samples = candidates.take(pa.array(rows[start : start + samples_per_shard]))
                plans.append(ShardPlan(path=path, split=split, aspect_ratio=ratio, samples=samples))
    return tuple(plans)


def _nearest_ratios(candidates: pa.Table, aspect_ratios: Sequence[float]) -> Float[np.ndarray, " n"]:
    sizes = zip(candidates["height_px"].to_pylist(), candidates["width_px"].to_pylist(), strict=True)
    return np.array([nearest_aspect_ratio(height, width, aspect_ratios) for height, width in sizes], np.float64)
