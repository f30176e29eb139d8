"""Which shard holds what, where no process holds all samples: the same shards as ``layout.plan_shards``.

The stages (``plan_tasks``) go on where those of ``curation.partitioned`` end, with the kept rows of every chunk. Equal
samples are numbered and pictures set aside where those with the same checksums meet; there an earlier version is looked
up, too. Shards are cut by a task per ratio that reads sizes alone, and the samples of each shard are brought together
in a file from which they are read one shard at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from infinity.data.curation.partitioned.buckets import read_bucket, read_told, write_rows
from infinity.data.curation.partitioned.workspace import Told, Workspace
from infinity.data.dataset.dealing import num_validation
from infinity.data.dataset.layout import SAMPLE_COLUMNS, SPLITS, KeptShard, ShardPlan
from infinity.jobs.dataset.large.parent_parts import (
    ParentRows,
    group_numbers,
    index_parent,
    match_pixels,
    name_repeats,
    staying_shards,
)
from infinity.jobs.dataset.large.plan_tasks import (
    GROUPED,
    LOOSE,
    PLANS,
    SHARDS_PER_PART,
    STAYS,
    PlanConfig,
    Reduced,
    cut_group,
    deal_samples,
    gather_shards,
    group_samples,
    leave_out,
    name_samples,
    origins_of,
    pick_validation,
    send_new,
)

Stage = Callable[[Callable[..., Told], Sequence[tuple[Any, ...]]], list[Told]]
"""Function that runs a task for each call on the cluster, and returns what they tell, in order."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartedPlans:
    """All shards of a data set, in order; the samples of one are in memory when it is asked for.

    Attributes:
        files: Places of the samples, sorted into shards.
        config: What the shards follow from.
        num_new: Number of shards that must be written.
        parent: The earlier version, or None.
        stays: For each split and ratio the numbers of its shards that stay, and how many new ones follow them.
    """

    files: tuple[str, ...]
    config: PlanConfig
    num_new: int
    parent: ParentRows | None = None
    stays: tuple[tuple[tuple[int, ...], int], ...] = ()

    def new(self) -> Iterator[ShardPlan]:
        """Yield the plans of the shards, in order.

        Raises:
            StorageError: A file cannot be read.
        """
        ratios = self.config.aspect_ratios
        for uri in self.files:
            told = read_told(uri)
            assert told is not None
            for shard, group in zip(told["shards"], told["groups"], strict=True):
                rows = read_bucket([uri], shard)
                yield ShardPlan(
                    split=SPLITS[group // len(ratios)],
                    aspect_ratio=ratios[group % len(ratios)],
                    samples=rows.select([*SAMPLE_COLUMNS, "key"]),
                    origins=origins_of(rows),
                    storing=self.config.storing,
                )

    def joined(self, written: Iterator[T]) -> Iterator[KeptShard | T]:
        """Yield the written shards, in order, among those that stay.

        Raises:
            ManifestError: The earlier version's manifest is damaged.
        """
        if self.parent is None:
            yield from written
            return
        for shards, number in self.stays:
            yield from self.parent.kept(shards)
            yield from islice(written, number)
        yield from written


def plan_partitioned(
    work: Workspace,
    kept: Sequence[str],
    reduced: Sequence[Reduced],
    total: int,
    config: PlanConfig,
    stage: Stage,
    parent: ParentRows | None = None,
) -> PartedPlans:
    """Deal the kept pictures to shards: by split, then by nearest aspect ratio, then in source order.

    Args:
        work: The decision, with a folder for the plan.
        kept: Places of the rows that stay, of every chunk.
        reduced: Places of the reduced pictures of every chunk.
        total: Number of rows that stay.
        config: What the shards follow from.
        stage: Runs tasks.
        parent: The earlier version, whose shards are kept where nothing in them changes.

    Raises:
        ManifestError: The manifest of the earlier version is damaged.
        StorageError: A file cannot be read or written.
    """
    chunks, partitions = range(len(kept)), range(work.num_partitions)
    indexed: list[Told] = []
    if parent is not None:
        indexed = stage(index_parent, [(work, number, parent) for number in range(len(parent.ranges))])
    named = [(work, number, kept[number], reduced[number], config, parent is not None) for number in chunks]
    told = stage(name_samples, named)
    stage(name_repeats, [(work, number, parent) for number in partitions])
    if parent is not None:
        stage(match_pixels, [(work, number, parent) for number in partitions])
        told = stage(send_new, [(work, number, config) for number in chunks])
        total = sum(each["new"] for each in told)
    _pick_all(work, np.sum([each["picks"] for each in told], axis=0).tolist(), total, config, stage)
    if parent is not None:
        groups = group_numbers(indexed, config.aspect_ratios, len(parent.shards()))
        write_rows(work.uri(STAYS, 0), pa.table({"group": pa.array(groups)}))
    grouped = stage(group_samples, [(work, number, config, parent) for number in chunks])
    counts = _counts(grouped, config)
    if parent is None:
        return _cut_and_deal(work, counts, config, stage)
    held = np.zeros(len(groups), np.int64)
    for each in grouped:
        held[np.array(each["shards"], np.int64)] += np.array(each["held"], np.int64)
    kept_shards = staying_shards(parent.shards(), groups, held, counts.sum(axis=0).tolist(), config.limits)
    chosen = pa.array(sorted(shard for group in kept_shards for shard in group), pa.int64())
    write_rows(work.uri(STAYS, 1), pa.table({"shard": chosen}))
    loose = stage(leave_out, [(work, number, config) for number in chunks])
    return _cut_and_deal(work, _counts(loose, config), config, stage, parent, kept_shards)


def _counts(told: Sequence[Told], config: PlanConfig) -> Int[np.ndarray, "chunks groups"]:
    return np.array([each["counts"] for each in told], np.int64).reshape(len(told), config.num_groups)


def _cut_and_deal(
    work: Workspace,
    counts: Int[np.ndarray, "chunks groups"],
    config: PlanConfig,
    stage: Stage,
    parent: ParentRows | None = None,
    kept_shards: Sequence[Sequence[int]] = (),
) -> PartedPlans:
    """Cut the samples of each group into shards, and bring those of a shard together."""
    source = GROUPED if parent is None else LOOSE
    groups = range(config.num_groups)
    cuts = stage(cut_group, [(work, group, int(counts[:, group].sum()), config, source) for group in groups])
    firsts = np.cumsum([0, *(each["shards"] for each in cuts)]).tolist()
    offsets = (np.cumsum(counts, axis=0) - counts).tolist()
    stage(deal_samples, [(work, number, offsets[number], firsts, source) for number in range(len(counts))])
    parts = range(-(-firsts[-1] // SHARDS_PER_PART))
    stage(gather_shards, [(work, number) for number in parts])
    files = tuple(work.uri(PLANS, number) for number in parts)
    told = zip(kept_shards, cuts, strict=True) if parent is not None else ()
    return PartedPlans(
        files=files,
        config=config,
        num_new=firsts[-1],
        parent=parent,
        stays=tuple((tuple(shards), int(each["shards"])) for shards, each in told),
    )


def _pick_all(work: Workspace, sizes: Sequence[int], total: int, config: PlanConfig, stage: Stage) -> None:
    """Set pictures aside, smallest hashes first: whole ranges of hashes, and one after the other where they end."""
    left = num_validation(total, config.validation_share)
    whole: list[tuple[Workspace, int, int]] = []
    for number, size in enumerate(sizes):
        if size <= left or not left:
            whole.append((work, number, min(size, left)))
            left -= min(size, left)
        else:
            (told,) = stage(pick_validation, [(work, number, left)])
            left = told["left"]
    stage(pick_validation, whole)
