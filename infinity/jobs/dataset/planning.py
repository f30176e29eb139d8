"""Which shard holds what, where no process holds all samples: the same shards as ``layout.plan_shards``.

The stages go on where those of ``curation.partitioned`` end, with the kept rows of every chunk: equal samples are
numbered and pictures set aside where those with the same checksums meet; shards are cut by a task per ratio that reads
sizes alone; and the samples of each shard are brought together in a file from which they are read one shard at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from infinity.config import Config
from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, read_told, write_buckets
from infinity.data.curation.partitioned.workspace import Work, Workspace
from infinity.data.curation.storing import load_reduced
from infinity.data.dataset.dealing import (
    ShardLimits,
    choose_by_hash,
    num_validation,
    numbered_keys,
    sample_digests,
    shard_sizes,
    validation_hashes,
)
from infinity.data.dataset.layout import SAMPLE_COLUMNS, SPLITS, Origin, ShardPlan, nearest_ratios
from infinity.data.dedup.checksums import as_rows, earlier_equals
from infinity.jobs.dataset.facts import SourceTable, placed

KEYS_IN, PICKS_IN, SAMPLES, KEYS, PICKS = "keys-in", "picks-in", "samples", "keys", "picks"
GROUPED, CUTS, DEALT, PLANS = "grouped", "cuts", "dealt", "plans"
_SHARDS_PER_PART = 64
_ORIGIN = ("origin_shard", "origin_offset", "origin_bytes", "origin_sha256")
_KINDS = (pa.string(), pa.int64(), pa.int64(), pa.string())

Told = dict[str, Any]
Stage = Callable[[Callable[..., Told], Sequence[tuple[Any, ...]]], list[Told]]
"""Function that runs a task for each call on the cluster, and returns what they tell, in order."""

Reduced = tuple[tuple[str, int], ...]
"""URI of the places of a slice's reduced pictures, and the number that is added to its row numbers."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig(Config):
    """What the shards follow from, besides the rows that stay.

    Attributes:
        aspect_ratios: Ratios (height / width) that pictures are sorted into, ascending, each once.
        validation_share: Share of the pictures that is set aside, 0 to below 1.
        limits: Largest size of a shard.
        seed: Seed of the validation split.
        storing: Digest of the settings by which pictures are reduced; empty if they are stored as they came.
    """

    aspect_ratios: tuple[float, ...]
    validation_share: float
    limits: ShardLimits
    seed: int
    storing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartedPlans:
    """All shards of a data set, in order; the samples of one are in memory when it is asked for.

    Attributes:
        files: Places of the samples, sorted into shards.
        config: What the shards follow from.
        num_new: Number of shards that must be written, which are all.
    """

    files: tuple[str, ...]
    config: PlanConfig
    num_new: int

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
                    origins=_origins(rows),
                    storing=self.config.storing,
                )

    def joined(self, written: Iterator[T]) -> Iterator[T]:
        """Yield the written shards, in order: no others stay."""
        return written


def plan_partitioned(
    work: Workspace, kept: Sequence[str], reduced: Sequence[Reduced], total: int, config: PlanConfig, stage: Stage
) -> PartedPlans:
    """Deal the kept pictures to shards: by split, then by nearest aspect ratio, then in source order.

    Args:
        work: The decision, with a folder for the plan.
        kept: Places of the rows that stay, of every chunk.
        reduced: Places of the reduced pictures of every chunk.
        total: Number of rows that stay.
        config: What the shards follow from.
        stage: Runs tasks.

    Raises:
        StorageError: A file cannot be read or written.
    """
    chunks, partitions = range(len(kept)), range(work.num_partitions)
    told = stage(name_samples, [(work, number, kept[number], reduced[number], config) for number in chunks])
    stage(number_repeats, [(work, number) for number in partitions])
    _pick_all(work, np.sum([each["picks"] for each in told], axis=0).tolist(), total, config, stage)
    grouped = stage(group_samples, [(work, number, config) for number in chunks])
    counts = np.array([each["counts"] for each in grouped], np.int64).reshape(len(chunks), -1)
    groups = range(counts.shape[1])
    cuts = stage(cut_group, [(work, group, int(counts[:, group].sum()), config) for group in groups])
    firsts = np.cumsum([0, *(each["shards"] for each in cuts)]).tolist()
    offsets = (np.cumsum(counts, axis=0) - counts).tolist()
    stage(deal_samples, [(work, number, offsets[number], firsts) for number in chunks])
    parts = range(-(-firsts[-1] // _SHARDS_PER_PART))
    stage(gather_shards, [(work, number) for number in parts])
    files = tuple(work.uri(PLANS, number) for number in parts)
    return PartedPlans(files=files, config=config, num_new=firsts[-1])


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


def name_samples(work: Workspace, number: int, kept: str, reduced: Reduced, config: PlanConfig) -> Told:
    """Task of a chunk: name every sample, and send its checksums to where equal ones meet."""

    def run() -> Work:
        rows = read_bucket([kept])
        found = [placed(table, uri, shift) for uri, shift in reduced if (table := load_reduced(uri)) is not None]
        table = SourceTable(slices=(), facts=rows.slice(0, 0), files=(), shifts=())
        if found:
            table = SourceTable(
                slices=(), facts=table.facts, files=(), shifts=(), reduced=pa.concat_tables(found).combine_chunks()
            )
        stored, origins = table.as_stored(rows)
        samples = stored.select(SAMPLE_COLUMNS)
        digests = pa.array([row.tobytes() for row in sample_digests(samples)], pa.binary(10))
        hashes = validation_hashes(as_rows(samples["pixels"]), config.seed)
        keys = pa.table({"row": samples["row"], "digest": digests})
        write_buckets(work.uri(KEYS_IN, number), keys, by_checksum(keys["digest"], work.num_partitions))
        ranges = (np.ascontiguousarray(hashes[:, :4]).view(">u4").ravel().astype(np.int64) * work.num_partitions) >> 32
        picks = pa.table({"row": samples["row"], "hash": pa.array([row.tobytes() for row in hashes], pa.binary(32))})
        write_buckets(work.uri(PICKS_IN, number), picks, ranges)
        samples = samples.append_column("digest", digests)
        samples = _with_origins(samples, [origins.get(row) for row in samples["row"].to_pylist()])
        return samples, None, {"picks": np.bincount(ranges, minlength=work.num_partitions).tolist()}

    return work.done(SAMPLES, number, run)


def number_repeats(work: Workspace, number: int) -> Told:
    """Task of a partition: number equal samples in the order of their rows."""

    def run() -> Work:
        rows = read_bucket(work.of_chunks(KEYS_IN), number).sort_by("row").combine_chunks()
        earlier = earlier_equals(as_rows(rows["digest"]))
        repeats = np.flatnonzero(earlier)
        found = pa.table({"row": rows["row"].take(pa.array(repeats)), "number": pa.array(earlier[repeats])})
        return found, work.chunks_of(found["row"]), {"rows": rows.num_rows}

    return work.done(KEYS, number, run)


def pick_validation(work: Workspace, number: int, wanted: int) -> Told:
    """Task of a range of hashes: set some of its pictures aside, and tell how many are still wanted."""

    def run() -> Work:
        rows = read_bucket(work.of_chunks(PICKS_IN), number)
        chosen, left = choose_by_hash(as_rows(rows["hash"]), wanted)
        found = rows.select(["row"]).filter(pa.array(chosen))
        return found, work.chunks_of(found["row"]), {"left": left}

    return work.done(PICKS, number, run)


def group_samples(work: Workspace, number: int, config: PlanConfig) -> Told:
    """Task of a chunk: give every sample its key, and sort the samples by split and ratio."""

    def run() -> Work:
        samples = read_bucket([work.uri(SAMPLES, number)])
        repeats, picked = (read_bucket(work.of_partitions(stage), number) for stage in (KEYS, PICKS))
        numbers = dict(zip(repeats["row"].to_pylist(), repeats["number"].to_pylist(), strict=True))
        earlier = np.array([numbers.get(row, 0) for row in samples["row"].to_pylist()], np.int64)
        samples = samples.append_column("key", numbered_keys(as_rows(samples["digest"]), earlier))
        ratios = nearest_ratios(samples, config.aspect_ratios)
        groups = np.searchsorted(np.array(config.aspect_ratios), ratios)
        groups = groups + len(config.aspect_ratios) * _is_in(samples["row"], picked["row"])
        counts = np.bincount(groups, minlength=len(SPLITS) * len(config.aspect_ratios))
        return samples.drop_columns(["digest"]), groups, {"counts": counts.tolist()}

    return work.done(GROUPED, number, run)


def cut_group(work: Workspace, group: int, total: int, config: PlanConfig) -> Told:
    """Task of a split and ratio: cut its samples into shards, by their sizes alone."""

    def pieces() -> Iterator[Int[np.ndarray, " m"]]:
        return (read_bucket([uri], group, ["num_bytes"])["num_bytes"].to_numpy() for uri in work.of_chunks(GROUPED))

    def run() -> Work:
        sizes = shard_sizes(pieces, total, config.limits)
        return pa.table({"samples": pa.array(sizes, pa.int64())}), None, {"shards": len(sizes)}

    return work.done(CUTS, group, run)


def deal_samples(work: Workspace, number: int, offsets: Sequence[int], firsts: Sequence[int]) -> Told:
    """Task of a chunk: send every sample to its shard.

    Args:
        work: The plan.
        number: Number of the chunk.
        offsets: Number of samples in earlier chunks, per split and ratio.
        firsts: Number of the first shard of each split and ratio.
    """

    def run() -> Work:
        tables, shards = list[pa.Table](), [np.empty(0, np.int64)]
        for group, offset in enumerate(offsets):
            rows = read_bucket([work.uri(GROUPED, number)], group)
            ends = np.cumsum(read_bucket([work.uri(CUTS, group)])["samples"].to_numpy())
            places = np.searchsorted(ends, offset + np.arange(rows.num_rows), side="right") + firsts[group]
            tables.append(rows.append_column("group", pa.array(np.full(rows.num_rows, group))))
            shards.append(places)
        found = np.concatenate(shards)
        dealt = pa.concat_tables(tables).append_column("shard", pa.array(found))
        return dealt, found // _SHARDS_PER_PART, {"rows": dealt.num_rows}

    return work.done(DEALT, number, run)


def gather_shards(work: Workspace, number: int) -> Told:
    """Task of some neighbouring shards: bring the samples of each together, in the order of their rows."""

    def run() -> Work:
        rows = read_bucket(work.of_chunks(DEALT), number).sort_by([("shard", "ascending"), ("row", "ascending")])
        shards, first = np.unique(rows["shard"].to_numpy(), return_index=True)
        groups = rows["group"].to_numpy()[first]
        told = {"shards": shards.tolist(), "groups": groups.tolist()}
        return rows.drop_columns(["shard", "group"]), rows["shard"].to_numpy(), told

    return work.done(PLANS, number, run)


def _is_in(rows: pa.ChunkedArray, chosen: pa.ChunkedArray) -> Bool[np.ndarray, " n"]:
    return np.asarray(pc.is_in(rows, value_set=chosen.combine_chunks()).to_numpy(zero_copy_only=False), bool)


def _with_origins(samples: pa.Table, origins: Sequence[Origin | None]) -> pa.Table:
    values = [(each.shard, each.offset, each.num_bytes, each.sha256) if each else (None,) * 4 for each in origins]
    for place, (name, kind) in enumerate(zip(_ORIGIN, _KINDS, strict=True)):
        samples = samples.append_column(name, pa.array([value[place] for value in values], kind))
    return samples


def _origins(rows: pa.Table) -> dict[str, Origin]:
    lines = rows.filter(pc.is_valid(rows["origin_shard"])).select(["key", *_ORIGIN]).to_pylist()
    return {line["key"]: Origin(*(line[name] for name in _ORIGIN)) for line in lines}
