"""The steps that need to know all kept pictures, on small facts only: splits, and which shard holds what.

Everything here is a pure function of the facts and, where there is one, of the parent's manifest: it does not matter
who measured what when. A shard of the parent all of whose samples are still wanted stays as it is; all other samples
are dealt evenly to new shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from infinity.config import digest_of
from infinity.data.dataset.dealing import ShardLimits, choose_validation, cut_evenly, sample_keys
from infinity.data.dataset.manifest import Manifest, Split
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.dataset.manifest_rows import with_further
from infinity.data.dedup.checksums import as_rows
from infinity.scales import nearest_aspect_ratio

SHARD_VERSION = 1
"""Changes whenever the same samples would make a shard of other bytes."""

SAMPLE_COLUMNS = (
    "row", "name", "url", "caption", "caption_long", "caption_short", "further", "num_bytes", "width_px", "height_px",
    "extension", "keep_bytes", "content", "pixels", "phash",
)  # fmt: skip
"""Columns of the facts that are needed to write a picture."""

T = TypeVar("T")

SPLITS: tuple[Split, Split] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Origin:
    """Place of a sample's picture in an earlier version of the data set, as it will be stored."""

    shard: str  # URI
    offset: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Settings and places of the stored pictures of a data set.

    Attributes:
        digest: Digest of the settings by which pictures are reduced; empty if they are stored as they came.
        origins: Places of reduced pictures that exist already, by row.
        as_parent: Whether the parent's pictures were stored in the same way, so that its shards can stay.
    """

    digest: str = ""
    origins: Mapping[int, Origin] = field(default_factory=dict)
    as_parent: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One shard to write.

    Attributes:
        split: Split that the samples belong to.
        aspect_ratio: The ratio that is nearest to all of them.
        samples: Samples in order: SAMPLE_COLUMNS and ``key``.
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
        samples = self.samples.drop_columns(["row"]).to_pylist()
        samples = [_without_further(sample) for sample in samples]
        lines = json.dumps(samples, sort_keys=True, ensure_ascii=True, default=bytes.hex)
        content = hashlib.sha256(lines.encode()).hexdigest()
        storing = [self.storing] if self.storing else []
        return digest_of([SHARD_VERSION, self.split, self.aspect_ratio, content, *storing])


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptShard:
    """A shard of the parent that stays as it is: its description and its rows of the parent's manifest."""

    info: ShardInfo
    rows: pa.Table


@dataclass(frozen=True, kw_only=True, slots=True)
class _ShardPart:
    """Samples of one shard to write, by their places among all samples."""

    split: Split
    aspect_ratio: float
    places: Int[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlans:
    """All shards of a data set, in order; a new one gets its samples when it is asked for, so that no copy of all lies
    in memory.

    Attributes:
        samples: All of them: SAMPLE_COLUMNS and ``key``, by row.
        shards: Shards of the parent that stay, and the samples of the new ones.
        parent_origins: Places in the parent of pictures as they will be stored, by key.
    """

    samples: pa.Table
    shards: tuple[KeptShard | _ShardPart, ...]
    parent_origins: Mapping[str, Origin]
    stored: Stored

    def __iter__(self) -> Iterator[ShardPlan | KeptShard]:
        return (self._plan(each) if isinstance(each, _ShardPart) else each for each in self.shards)

    def new(self) -> Iterator[ShardPlan]:
        """Yield the plans of the shards that must be written."""
        return (self._plan(each) for each in self.shards if isinstance(each, _ShardPart))

    @property
    def num_new(self) -> int:
        """Number of shards that must be written."""
        return sum(isinstance(each, _ShardPart) for each in self.shards)

    def joined(self, written: Iterator[T]) -> Iterator[KeptShard | T]:
        """Yield the written shards, in order, among those that stay."""
        return (next(written) if isinstance(each, _ShardPart) else each for each in self.shards)

    def _plan(self, part: _ShardPart) -> ShardPlan:
        first = int(part.places[0])
        near = self.samples.slice(first, int(part.places[-1]) + 1 - first)  # to take from all copies all first
        samples = near.take(pa.array(part.places - first))
        origins = {}
        if self.parent_origins or self.stored.origins:
            rows = zip(samples["key"].to_pylist(), samples["row"].to_pylist(), strict=True)
            found = {key: self.parent_origins.get(key) or self.stored.origins.get(row) for key, row in rows}
            origins = {key: origin for key, origin in found.items() if origin is not None}
        return ShardPlan(
            split=part.split,
            aspect_ratio=part.aspect_ratio,
            samples=samples,
            origins=origins,
            storing=self.stored.digest,
        )


def samples_of(rows: pa.Table, first_row: int = 0) -> pa.Table:
    """Return samples as ``plan_shards`` takes them, from the rows of a manifest alone.

    Args:
        rows: Neighbouring rows of the manifest.
        first_row: Number of the first of them.
    """
    table = with_further(rows)
    binary = {
        name: pa.array([bytes.fromhex(value) for value in table[column].to_pylist()], pa.binary(32))
        for name, column in (("content", "original_sha256"), ("pixels", "pixels_sha256"))
    }
    columns = {
        "row": pa.array(range(first_row, first_row + len(table)), pa.int64()),
        "name": table["source"],
        "keep_bytes": pc.equal(table["sha256"], table["original_sha256"]),
        **binary,
    }
    return pa.table({name: columns[name] if name in columns else table[name] for name in SAMPLE_COLUMNS})


def _without_further(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample without the column of further captions where it has none: older plans keep their digest."""
    return {name: value for name, value in sample.items() if name != "further" or value is not None}


def plan_shards(
    kept: pa.Table,
    *,
    aspect_ratios: Sequence[float],
    validation_share: float,
    limits: ShardLimits,
    seed: int,
    parent: Manifest | None = None,
    stored: Stored = Stored(),  # frozen
) -> ShardPlans:
    """Deal the kept pictures to shards: by split, then by nearest aspect ratio, then in source order.

    Args:
        kept: Facts of the pictures, by row.
        aspect_ratios: Ratios (height / width) that pictures are sorted into.
        validation_share: Share of the pictures that is set aside; pictures of the parent stay in their split.
        limits: Largest size of a shard.
        parent: The version whose shards are kept where nothing in them changes.
        stored: Settings of storing, and the places of pictures that lie as they will be stored.
    """
    samples = kept.select(SAMPLE_COLUMNS)
    samples = samples.append_column("key", sample_keys(samples))
    before = _Parent(parent, stored.as_parent)
    ratios = nearest_ratios(samples, aspect_ratios)
    validation = _validation(samples, before, validation_share, seed)
    sizes = samples["num_bytes"].to_numpy()
    planned: list[KeptShard | _ShardPart] = []
    for split in SPLITS:
        for ratio in sorted(set(aspect_ratios)):
            group = np.flatnonzero((validation == (split == "validation")) & (ratios == ratio))
            stay, places = before.divide(samples["key"], group, split, ratio, limits)
            planned += stay
            parts = _parts(places, cut_evenly(sizes[places], limits))
            planned += [_ShardPart(split=split, aspect_ratio=ratio, places=part) for part in parts]
    return ShardPlans(samples=samples, shards=tuple(planned), parent_origins=before.origins, stored=stored)


class _Parent:
    """Content of an earlier version, by key; empty without one."""

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
                shard = manifest.shard_uri(info.path)
                if not reusable:
                    continue
                self.origins[row["key"]] = Origin(shard, row["offset"], row["num_bytes"], row["sha256"])

    def divide(
        self, keys: pa.ChunkedArray, group: Int[np.ndarray, " n"], split: str, ratio: float, limits: ShardLimits
    ) -> tuple[list[KeptShard], Int[np.ndarray, " m"]]:
        """Return shards of this group that stay, and the places of all samples that are in none of them, ascending.

        Where new shards are written anyway, those of the parent that are less than half full join them: versions that
        each add a little do not end in thousands of small shards.
        """
        if not self.shards:
            return [], group
        wanted = dict(zip(keys.take(pa.array(group)).to_pylist(), group.tolist(), strict=True))
        whole = [
            shard
            for shard, group in zip(self.shards, self.groups, strict=True)
            if group == (split, ratio) and all(key in wanted for key in shard.rows["key"].to_pylist())
        ]
        full = [shard for shard in whole if not is_small(shard.info, limits)]
        loose = _without(wanted, whole)
        return (whole, loose) if not len(loose) else (full, _without(wanted, full))


def is_small(info: ShardInfo, limits: ShardLimits) -> bool:
    return 2 * info.num_samples < limits.samples and 2 * info.num_bytes < limits.num_bytes


def _without(wanted: Mapping[str, int], shards: Sequence[KeptShard]) -> Int[np.ndarray, " m"]:
    held = {key for shard in shards for key in shard.rows["key"].to_pylist()}
    return np.array(sorted(place for key, place in wanted.items() if key not in held), np.int64)


def _parts(places: Int[np.ndarray, " n"], shards: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    return np.split(places, np.flatnonzero(np.diff(shards)) + 1) if len(places) else []


def _validation(samples: pa.Table, before: _Parent, share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Return the validation samples: the parent's, and those with the same pixels; others are chosen by hash."""
    pixels = as_rows(samples["pixels"])
    validation, new = np.zeros(len(pixels), bool), np.ones(len(pixels), bool)
    if before.splits:
        rows = zip(samples["key"].to_pylist(), samples["pixels"].to_pylist(), strict=True)
        known = [before.splits.get(key) or before.pixel_splits.get(value.hex()) for key, value in rows]
        new = np.array([split is None for split in known], bool)
        validation = np.array([split == "validation" for split in known], bool)
    validation[new] = choose_validation(pixels if new.all() else pixels[new], share, seed)
    return validation


def nearest_ratios(samples: pa.Table, aspect_ratios: Sequence[float]) -> Float[np.ndarray, " n"]:
    """Return the ratio (height / width) among the given ones that is nearest to each sample's."""
    heights, widths = (samples[name].to_numpy() for name in ("height_px", "width_px"))
    sizes, codes = np.unique(heights.astype(np.int64) << 32 | widths, return_inverse=True)
    sides = ((size >> 32, size & 0xFFFFFFFF) for size in sizes.tolist())
    ratios = [nearest_aspect_ratio(height, width, aspect_ratios) for height, width in sides]
    return np.array(ratios, np.float64)[codes]
