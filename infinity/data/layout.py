"""The steps that need to know all kept pictures, on small facts only: splits, and which shard holds what.

Everything here is a pure function of the facts and, where there is one, of the parent's manifest: it does not matter
who measured what when. A shard of the parent all of whose samples are still wanted stays as it is; all other samples
are dealt evenly to new shards.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from infinity import storage
from infinity.config import Config, digest_of
from infinity.data.manifest import Manifest, ShardInfo, Split
from infinity.scales import nearest_aspect_ratio

SHARD_VERSION = 1
"""Changes whenever the same samples would make a shard of other bytes."""

SAMPLE_COLUMNS = (
    "row", "name", "url", "caption", "caption_long", "caption_short", "num_bytes", "width_px", "height_px",
    "extension", "keep_bytes", "content", "pixels", "phash",
)  # fmt: skip
"""What is needed of the facts to write a picture."""

_SPLITS: tuple[Split, Split] = ("train", "validation")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardLimits(Config):
    """How large shards become at most.

    Attributes:
        samples: Samples in one shard.
        num_bytes: Bytes of pictures in one shard, before those that must change; a larger picture has its own.
    """

    samples: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an earlier version of the data set holds a sample's picture, as it will be stored."""

    shard: str  # URI
    offset: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """How the pictures of a data set are stored.

    Attributes:
        digest: Of the settings by which pictures are reduced; empty if they are stored as they came.
        origins: By row, where reduced pictures lie already.
        as_parent: Whether the parent's pictures were stored in the same way, so that its shards can stay.
    """

    digest: str = ""
    origins: Mapping[int, Origin] = field(default_factory=dict)
    as_parent: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One shard to write.

    Attributes:
        split: Which split its samples belong to.
        aspect_ratio: The ratio that is nearest to all of them.
        samples: In order: SAMPLE_COLUMNS and ``key``.
        origins: By key, for the samples that lie as they will be stored, in an earlier version or beside the facts; the
            others come from the source.
        storing: Digest of the settings by which pictures were reduced; empty if they are stored as they came.
    """

    split: Split
    aspect_ratio: float
    samples: pa.Table
    origins: Mapping[str, Origin] = field(default_factory=dict)
    storing: str = ""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over everything that the shard's bytes and its rows of the manifest follow from."""
        samples = self.samples.drop_columns(["row"])
        lines = json.dumps(samples.to_pylist(), sort_keys=True, ensure_ascii=True, default=bytes.hex)
        content = hashlib.sha256(lines.encode()).hexdigest()
        storing = [self.storing] if self.storing else []
        return digest_of([SHARD_VERSION, self.split, self.aspect_ratio, content, *storing])


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptShard:
    """A shard of the parent that stays as it is: its description and its rows of the parent's manifest."""

    info: ShardInfo
    rows: pa.Table


def samples_of(manifest: Manifest) -> pa.Table:
    """The samples of a data set as ``plan_shards`` takes them, in the order of its rows, without asking the source."""
    table = manifest.table
    binary = {
        name: pa.array([bytes.fromhex(value) for value in table[column].to_pylist()], pa.binary(32))
        for name, column in (("content", "original_sha256"), ("pixels", "pixels_sha256"))
    }
    columns = {
        "row": pa.array(range(len(manifest)), pa.int64()),
        "name": table["source"],
        "keep_bytes": pc.equal(table["sha256"], table["original_sha256"]),
        **binary,
    }
    return pa.table({name: columns[name] if name in columns else table[name] for name in SAMPLE_COLUMNS})


def sample_keys(kept: pa.Table) -> list[str]:
    """A name for each sample: 20 hexadecimal digits over picture and captions, and a number for repetitions.

    It does not depend on the place in the source, so a sample is recognised in a source that grew.
    """
    seen: Counter[str] = Counter()
    keys = []
    columns = [kept[name].to_pylist() for name in ("caption", "caption_long", "caption_short")]
    for content, *captions in zip(kept["content"].to_pylist(), *columns, strict=True):
        key = hashlib.sha256(content + json.dumps(captions).encode()).hexdigest()[:20]
        keys.append(f"{key}-{seen[key]}" if seen[key] else key)
        seen[key] += 1
    return keys


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


def cut_evenly(num_bytes: Int[np.ndarray, " n"], limits: ShardLimits) -> Int[np.ndarray, " n"]:
    """The number of the shard of each sample, ascending: as few shards as the limits allow, all about equally large.

    Half of a sample's weight is its share of the samples and half its share of the bytes, so that neither many small
    pictures nor a few large ones make a shard that is unlike the others.
    """
    total = len(num_bytes)
    if not total:
        return np.zeros(0, np.int64)
    sizes = np.maximum(num_bytes.astype(np.float64), 1.0)
    weights = 0.5 / total + 0.5 * sizes / sizes.sum()
    middles = np.cumsum(weights) - weights / 2
    number = max(-(-total // limits.samples), int(-(-sizes.sum() // limits.num_bytes)))
    while True:
        shards = np.minimum((middles * number).astype(np.int64), number - 1)
        _, shards, counts = np.unique(shards, return_inverse=True, return_counts=True)
        too_large = (np.bincount(shards, sizes) > limits.num_bytes) & (counts > 1)
        if counts.max() <= limits.samples and not too_large.any():
            return shards
        number = max(number + 1, number * 11 // 10)


def plan_shards(
    kept: pa.Table,
    *,
    aspect_ratios: Sequence[float],
    validation_share: float,
    limits: ShardLimits,
    seed: int,
    parent: Manifest | None = None,
    stored: Stored = Stored(),  # frozen
) -> tuple[ShardPlan | KeptShard, ...]:
    """Deal the kept pictures to shards: by split, then by nearest aspect ratio, then in source order.

    Args:
        kept: Facts of the pictures, by row.
        aspect_ratios: Ratios (height / width) that pictures are sorted into.
        validation_share: Share of the pictures that is set aside; pictures of the parent stay in their split.
        limits: How large shards become.
        seed: Another seed sets aside other pictures.
        parent: The version whose shards are kept where nothing in them changes.
        stored: How pictures are stored, and which lie as they will be stored.
    """
    samples = kept.select(SAMPLE_COLUMNS).combine_chunks()
    keys = sample_keys(samples)
    samples = samples.append_column("key", pa.array(keys, pa.string()))
    before = _Parent(parent, stored.as_parent)
    ratios = _nearest_ratios(samples, aspect_ratios)
    validation = _validation(samples, keys, before, validation_share, seed)
    sizes = np.array(samples["num_bytes"].to_pylist(), np.int64)
    planned: list[ShardPlan | KeptShard] = []
    for split in _SPLITS:
        for ratio in sorted(set(aspect_ratios)):
            group = np.flatnonzero((validation == (split == "validation")) & (ratios == ratio))
            stay, loose = before.divide({keys[index]: int(index) for index in group}, split, ratio, limits)
            planned += stay
            places = np.array(sorted(loose), np.int64)
            for part in _parts(places, cut_evenly(sizes[places], limits)):
                table = samples.take(pa.array(part))
                rows = zip(table["key"].to_pylist(), table["row"].to_pylist(), strict=True)
                found = {key: before.origins.get(key) or stored.origins.get(row) for key, row in rows}
                origins = {key: origin for key, origin in found.items() if origin is not None}
                planned.append(
                    ShardPlan(split=split, aspect_ratio=ratio, samples=table, origins=origins, storing=stored.digest)
                )
    return tuple(planned)


class _Parent:
    """What an earlier version holds, by key; nothing without one."""

    def __init__(self, manifest: Manifest | None, reusable: bool) -> None:
        self.shards: list[KeptShard] = []
        self.groups: list[tuple[str, float]] = []
        self.splits: dict[str, str] = {}
        self.pixel_splits: dict[str, str] = {}
        self.origins: dict[str, Origin] = {}
        if manifest is None:
            return
        names = np.array(manifest.table["shard"].to_pylist(), dtype=object)
        for info in manifest.head.shards:
            rows = manifest.table.filter(pa.array(names == info.path))
            if reusable:
                self.shards.append(KeptShard(info=info, rows=rows))
                self.groups.append((rows["split"][0].as_py(), rows["aspect_ratio"][0].as_py()))
            for row in rows.select(["key", "split", "pixels_sha256", "offset", "num_bytes", "sha256"]).to_pylist():
                self.splits[row["key"]] = self.pixel_splits[row["pixels_sha256"]] = row["split"]
                shard = storage.join(manifest.root, info.path)
                if not reusable:
                    continue
                self.origins[row["key"]] = Origin(shard, row["offset"], row["num_bytes"], row["sha256"])

    def divide(
        self, wanted: Mapping[str, int], split: str, ratio: float, limits: ShardLimits
    ) -> tuple[list[KeptShard], set[int]]:
        """Shards of this group that stay, and the places of all samples that are in none of them.

        Where new shards are written anyway, those of the parent that are less than half full join them: versions that
        each add a little do not end in thousands of small shards.
        """
        whole = [
            shard
            for shard, group in zip(self.shards, self.groups, strict=True)
            if group == (split, ratio) and all(key in wanted for key in shard.rows["key"].to_pylist())
        ]
        full = [shard for shard in whole if not _is_small(shard.info, limits)]
        loose = _without(wanted, whole)
        return (whole, loose) if not loose else (full, _without(wanted, full))


def _is_small(info: ShardInfo, limits: ShardLimits) -> bool:
    return 2 * info.num_samples < limits.samples and 2 * info.num_bytes < limits.num_bytes


def _without(wanted: Mapping[str, int], shards: Sequence[KeptShard]) -> set[int]:
    held = {key for shard in shards for key in shard.rows["key"].to_pylist()}
    return {place for key, place in wanted.items() if key not in held}


def _parts(places: Int[np.ndarray, " n"], shards: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    return np.split(places, np.flatnonzero(np.diff(shards)) + 1) if len(places) else []


def _validation(
    samples: pa.Table, keys: Sequence[str], before: _Parent, share: float, seed: int
) -> Bool[np.ndarray, " n"]:
    """Samples of the parent stay where they are, and so do others with the same pixels; new ones are chosen."""
    pixels: list[Any] = samples["pixels"].to_pylist()
    known = [before.splits.get(k) or before.pixel_splits.get(p.hex()) for k, p in zip(keys, pixels, strict=True)]
    new = [index for index, split in enumerate(known) if split is None]
    validation = np.array([split == "validation" for split in known], bool)
    validation[new] = choose_validation([pixels[index] for index in new], share, seed)
    return validation


def _nearest_ratios(samples: pa.Table, aspect_ratios: Sequence[float]) -> Float[np.ndarray, " n"]:
    sizes = zip(samples["height_px"].to_pylist(), samples["width_px"].to_pylist(), strict=True)
    return np.array([nearest_aspect_ratio(height, width, aspect_ratios) for height, width in sizes], np.float64)
