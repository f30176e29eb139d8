"""Tasks of ``planning``, each on a chunk of neighbouring rows or on samples with the same checksums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from infinity.config import Config
from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, write_buckets
from infinity.data.curation.partitioned.workspace import Told, Work, Workspace, writes
from infinity.data.curation.storing import load_reduced
from infinity.data.dataset.dealing import (
    ShardLimits,
    choose_by_hash,
    numbered_keys,
    sample_digests,
    shard_sizes,
    validation_hashes,
)
from infinity.data.dataset.layout import SAMPLE_COLUMNS, SPLITS, Origin, nearest_ratios
from infinity.data.dedup.checksums import as_rows
from infinity.jobs.dataset.facts import SourceTable, placed
from infinity.jobs.dataset.large.parent_parts import KEYS, KEYS_IN, PIXELS, PIXELS_IN, ParentRows

PICKS_IN, SAMPLES, PICKS, KNOWN, STAYS = "picks-in", "samples", "picks", "known", "stays"
GROUPED, LOOSE, CUTS, DEALT, PLANS = "grouped", "loose", "cuts", "dealt", "plans"
SHARDS_PER_PART = 64
_ORIGIN = ("origin_shard", "origin_offset", "origin_bytes", "origin_sha256")
_KINDS = (pa.string(), pa.int64(), pa.int64(), pa.string())

Reduced = tuple[tuple[str, int], ...]
"""URI of the places of a slice's reduced pictures, and the number that is added to its row numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig(Config):
    """What the shards follow from, besides the rows that stay.

    Attributes:
        aspect_ratios: Ratios (height / width) that pictures are sorted into, ascending, each once.
        validation_share: Share of the pictures that is set aside, 0 to below 1.
        limits: Largest size of a shard.
        seed: Seed of the validation split.
        storing: Digest of the settings by which pictures are reduced; empty if they are stored as they came.
        parent: Digest of the earlier version, with whether its shards can stay; empty without one.
    """

    aspect_ratios: tuple[float, ...]
    validation_share: float
    limits: ShardLimits
    seed: int
    storing: str = ""
    parent: str = ""

    @property
    def num_groups(self) -> int:
        """Number of pairs of a split and a ratio."""
        return len(SPLITS) * len(self.aspect_ratios)


@writes(SAMPLES)
def name_samples(
    work: Workspace, number: int, kept: str, reduced: Reduced, config: PlanConfig, has_parent: bool
) -> Work:
    """Task of a chunk: name every sample, and send its checksums to where equal ones meet."""
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
    keys = pa.table({"row": samples["row"], "digest": digests})
    write_buckets(work.uri(KEYS_IN, number), keys, by_checksum(keys["digest"], work.num_partitions))
    picks = np.zeros(work.num_partitions, np.int64)
    if has_parent:
        pixels = samples.select(["row", "pixels"])
        write_buckets(work.uri(PIXELS_IN, number), pixels, by_checksum(pixels["pixels"], work.num_partitions))
    else:
        picks = _send_picks(work, number, samples, config)
    samples = samples.append_column("digest", digests)
    samples = _with_origins(samples, [origins.get(row) for row in samples["row"].to_pylist()])
    return samples, None, {"picks": picks.tolist()}


def _send_picks(work: Workspace, number: int, samples: pa.Table, config: PlanConfig) -> Int[np.ndarray, " p"]:
    """Send the hashes of samples to where some are set aside for validation; return how many went to each range."""
    hashes = validation_hashes(as_rows(samples["pixels"]), config.seed)
    ranges = (np.ascontiguousarray(hashes[:, :4]).view(">u4").ravel().astype(np.int64) * work.num_partitions) >> 32
    picks = pa.table({"row": samples["row"], "hash": pa.array([row.tobytes() for row in hashes], pa.binary(32))})
    write_buckets(work.uri(PICKS_IN, number), picks, ranges)
    return np.bincount(ranges, minlength=work.num_partitions)


@writes(KNOWN)
def send_new(work: Workspace, number: int, config: PlanConfig) -> Work:
    """Task of a chunk: samples that an earlier version has stay in their split; the hashes of others are sent."""
    samples = read_bucket([work.uri(SAMPLES, number)], columns=["row", "pixels"])
    splits = dict[int, str]()
    for stage in (PIXELS, KEYS):  # the same sample counts more than the same pixels
        found = read_bucket(work.of_partitions(stage), number, ["row", "split"])
        found = found.filter(pc.is_valid(found["split"]))
        splits |= dict(zip(found["row"].to_pylist(), found["split"].to_pylist(), strict=True))
    is_new = np.array([row not in splits for row in samples["row"].to_pylist()], bool)
    picks = _send_picks(work, number, samples.filter(pa.array(is_new)), config)
    chosen = pa.array(sorted(row for row, split in splits.items() if split == SPLITS[1]), pa.int64())
    return pa.table({"row": chosen}), None, {"picks": picks.tolist(), "new": int(is_new.sum())}


@writes(PICKS)
def pick_validation(work: Workspace, number: int, wanted: int) -> Work:
    """Task of a range of hashes: set some of its pictures aside, and tell how many are still wanted."""
    rows = read_bucket(work.of_chunks(PICKS_IN), number)
    chosen, left = choose_by_hash(as_rows(rows["hash"]), wanted)
    found = rows.select(["row"]).filter(pa.array(chosen))
    return found, work.chunks_of(found["row"]), {"left": left}


@writes(GROUPED)
def group_samples(work: Workspace, number: int, config: PlanConfig, parent: ParentRows | None) -> Work:
    """Task of a chunk: give every sample its key, and sort the samples by split and ratio."""
    samples = read_bucket([work.uri(SAMPLES, number)])
    found, picked = (read_bucket(work.of_partitions(stage), number) for stage in (KEYS, PICKS))
    places = pc.index_in(samples["row"], value_set=found["row"].combine_chunks()).combine_chunks()
    earlier = found["number"].take(places).fill_null(0).to_numpy()
    samples = samples.append_column("key", numbered_keys(as_rows(samples["digest"]), earlier))
    ratios = nearest_ratios(samples, config.aspect_ratios)
    groups = np.searchsorted(np.array(config.aspect_ratios), ratios)
    validation = _is_in(samples["row"], picked["row"])
    if parent is not None:
        validation |= _is_in(samples["row"], read_bucket([work.uri(KNOWN, number)])["row"])
    groups = groups + len(config.aspect_ratios) * validation
    told: Told = {"counts": np.bincount(groups, minlength=config.num_groups).tolist()}
    samples = samples.drop_columns(["digest"])
    if parent is not None:
        samples, held = _of_parent(samples, found.take(places), groups, work, parent)
        told |= held
    return samples, groups, told


def _of_parent(
    samples: pa.Table, found: pa.Table, groups: Int[np.ndarray, " n"], work: Workspace, parent: ParentRows
) -> tuple[pa.Table, Told]:
    """Return samples with their places in an earlier version, and how many of each shard are in the shard's group."""
    shards = found["parent_shard"].fill_null(-1).to_numpy() if parent.reusable else np.full(len(groups), -1)
    own = read_bucket([work.uri(STAYS, 0)])["group"].to_numpy()
    same = (shards >= 0) & (own[shards] == groups)
    numbers, held = np.unique(shards[same], return_counts=True)
    before = [samples[name].to_pylist() for name in _ORIGIN]
    lines = found.select(["offset", "num_bytes", "sha256"]).to_pylist() if parent.reusable else []
    for place in np.flatnonzero(shards >= 0).tolist():
        line = lines[place]
        values = (parent.origin(int(shards[place])), line["offset"], line["num_bytes"], line["sha256"])
        for column, value in zip(before, values, strict=True):
            column[place] = value
    for name, kind, values in zip(_ORIGIN, _KINDS, before, strict=True):
        samples = samples.set_column(samples.schema.get_field_index(name), name, pa.array(values, kind))
    # A sample of another group than its shard's cannot stay where it is.
    samples = samples.append_column("parent_shard", pa.array(np.where(same, shards, -1)))
    return samples, {"shards": numbers.tolist(), "held": held.tolist()}


@writes(LOOSE)
def leave_out(work: Workspace, number: int, config: PlanConfig) -> Work:
    """Task of a chunk: leave out the samples whose shards of an earlier version stay."""
    staying = read_bucket([work.uri(STAYS, 1)])["shard"]
    tables, counts = list[pa.Table](), list[int]()
    for group in range(config.num_groups):
        rows = read_bucket([work.uri(GROUPED, number)], group)
        rows = rows.filter(pa.array(~_is_in(rows["parent_shard"], staying))).drop_columns(["parent_shard"])
        tables.append(rows)
        counts.append(rows.num_rows)
    return pa.concat_tables(tables), np.repeat(np.arange(config.num_groups), counts), {"counts": counts}


@writes(CUTS)
def cut_group(work: Workspace, group: int, total: int, config: PlanConfig, source: str) -> Work:
    """Task of a split and ratio: cut its samples into shards, by their sizes alone."""

    def pieces() -> Iterator[Int[np.ndarray, " m"]]:
        return (read_bucket([uri], group, ["num_bytes"])["num_bytes"].to_numpy() for uri in work.of_chunks(source))

    sizes = shard_sizes(pieces, total, config.limits)
    return pa.table({"samples": pa.array(sizes, pa.int64())}), None, {"shards": len(sizes)}


@writes(DEALT)
def deal_samples(work: Workspace, number: int, offsets: Sequence[int], firsts: Sequence[int], source: str) -> Work:
    """Task of a chunk: send every sample to its shard.

    Args:
        offsets: Number of samples in earlier chunks, per split and ratio.
        firsts: Number of the first shard of each split and ratio.
        source: Stage whose samples are dealt.
    """
    tables, shards = list[pa.Table](), [np.empty(0, np.int64)]
    for group, offset in enumerate(offsets):
        rows = read_bucket([work.uri(source, number)], group)
        ends = np.cumsum(read_bucket([work.uri(CUTS, group)])["samples"].to_numpy())
        places = np.searchsorted(ends, offset + np.arange(rows.num_rows), side="right") + firsts[group]
        tables.append(rows.append_column("group", pa.array(np.full(rows.num_rows, group))))
        shards.append(places)
    found = np.concatenate(shards)
    dealt = pa.concat_tables(tables).append_column("shard", pa.array(found))
    return dealt, found // SHARDS_PER_PART, {"rows": dealt.num_rows}


@writes(PLANS)
def gather_shards(work: Workspace, number: int) -> Work:
    """Task of some neighbouring shards: bring the samples of each together, in the order of their rows."""
    rows = read_bucket(work.of_chunks(DEALT), number).sort_by([("shard", "ascending"), ("row", "ascending")])
    shards, first = np.unique(rows["shard"].to_numpy(), return_index=True)
    groups = rows["group"].to_numpy()[first]
    told = {"shards": shards.tolist(), "groups": groups.tolist()}
    return rows.drop_columns(["shard", "group"]), rows["shard"].to_numpy(), told


def _is_in(rows: pa.ChunkedArray, chosen: pa.ChunkedArray) -> Bool[np.ndarray, " n"]:
    return np.asarray(pc.is_in(rows, value_set=chosen.combine_chunks()).to_numpy(zero_copy_only=False), bool)


def _with_origins(samples: pa.Table, origins: Sequence[Origin | None]) -> pa.Table:
    values = [(each.shard, each.offset, each.num_bytes, each.sha256) if each else (None,) * 4 for each in origins]
    for place, (name, kind) in enumerate(zip(_ORIGIN, _KINDS, strict=True)):
        samples = samples.append_column(name, pa.array([value[place] for value in values], kind))
    return samples


def origins_of(rows: pa.Table) -> dict[str, Origin]:
    """Return by key where the pictures of samples lie as they will be stored, of those that lie somewhere."""
    lines = rows.filter(pc.is_valid(rows["origin_shard"])).select(["key", *_ORIGIN]).to_pylist()
    return {line["key"]: Origin(*(line[name] for name in _ORIGIN)) for line in lines}
