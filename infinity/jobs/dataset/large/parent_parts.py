"""An earlier version of a large data set, looked up in parts: which samples it held, in which split, in which shards.

Its rows are sent to where samples with the same checksums meet (``planning``). Which of its shards stay is arithmetic
on numbers per shard, the same as in ``layout.plan_shards``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, write_buckets
from infinity.data.curation.partitioned.row_rules import KEPT, LISTED, ChunkCounts
from infinity.data.curation.partitioned.workspace import Told, Work, Workspace, writes
from infinity.data.curation.takedown import listed_pixels, split_taken_down
from infinity.data.dataset.dealing import ShardLimits, numbered_keys
from infinity.data.dataset.layout import SPLITS, KeptShard, is_small, samples_of
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.dataset.manifest_head import ShardInfo
from infinity.data.dedup.checksums import as_rows, earlier_equals

PARENT_KEYS, PARENT_PIXELS, KEYS_IN, KEYS, PIXELS_IN, PIXELS = (
    "parent-keys", "parent-pixels", "keys-in", "keys", "pixels-in", "pixels",
)  # fmt: skip
ROWS_PER_TASK = 65_536
_KEY_DIGITS = 20
_FOUND = pa.schema(
    [
        ("split", pa.string()), ("parent_shard", pa.int64()), ("offset", pa.int64()), ("num_bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)  # fmt: skip
"""What an earlier version tells of a sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentRows:
    """An earlier version whose rows are read in parts.

    Attributes:
        uri: URI of its manifest.
        num_rows: Number of its rows.
        reusable: Whether its pictures are stored in the same way, so that its shards can stay.
    """

    uri: str
    digest: str
    num_rows: int
    reusable: bool

    @classmethod
    def of(cls, manifest: Manifest, reusable: bool) -> ParentRows:
        """Return the rows of a manifest."""
        return cls(uri=manifest.uri, digest=manifest.digest, num_rows=len(manifest), reusable=reusable)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First row and row behind the last one of each task's part."""
        starts = range(0, self.num_rows, ROWS_PER_TASK)
        return [(start, min(start + ROWS_PER_TASK, self.num_rows)) for start in starts]

    def piece(self, number: int) -> pa.Table:
        """Return the rows of a task's part.

        Raises:
            ManifestError: The manifest is damaged.
        """
        return _opened(self.uri).piece(*self.ranges[number])

    def kept(self, shards: Sequence[int]) -> Iterator[KeptShard]:
        """Yield shards that stay, by their numbers; the rows of one are in memory at a time.

        Raises:
            ManifestError: The manifest is damaged.
        """
        manifest, starts = _opened(self.uri), _starts(self.uri)
        for number in shards:
            rows = manifest.piece(starts[number], starts[number + 1])
            yield KeptShard(info=manifest.head.shards[number], rows=rows)

    def origin(self, shard: int) -> str:
        """Return the URI of a shard, given its number."""
        manifest = _opened(self.uri)
        return manifest.shard_uri(manifest.head.shards[shard].path)

    def shards(self) -> tuple[ShardInfo, ...]:
        """Return the descriptions of all shards."""
        return _opened(self.uri).head.shards


@lru_cache(maxsize=1)
def _opened(uri: str) -> Manifest:
    return Manifest.load(uri)


@lru_cache(maxsize=1)
def _starts(uri: str) -> tuple[int, ...]:
    """Return the first row of each shard, and the number of rows."""
    return tuple(accumulate((info.num_samples for info in _opened(uri).head.shards), initial=0))


@writes(PARENT_PIXELS)
def index_parent(work: Workspace, number: int, parent: ParentRows) -> Work:
    """Task of a part of an earlier version: send its rows to where samples with the same checksums meet.

    Raises:
        ManifestError: Rows of a shard are not where the head says.
    """
    start, stop = parent.ranges[number]
    manifest, starts = _opened(parent.uri), np.array(_starts(parent.uri))
    rows = parent.piece(number)
    shards = np.searchsorted(starts, np.arange(start, stop), side="right") - 1
    names = pa.array([info.path for info in manifest.head.shards])
    if not pc.all(pc.equal(rows["shard"], names.take(pa.array(shards)))).as_py():
        raise ManifestError(f"{parent.uri}: expected the rows of each shard together; build the data set again")
    digests = _as_bytes([key[:_KEY_DIGITS] for key in rows["key"].to_pylist()], 10)
    found = pa.table(
        {"key": rows["key"], "split": rows["split"], "parent_shard": pa.array(shards, pa.int64()),
         "offset": rows["offset"], "num_bytes": rows["num_bytes"], "sha256": rows["sha256"]}
    )  # fmt: skip
    found = pa.table([found["key"], *(found[each.name].cast(each.type) for each in _FOUND)], ["key", *_FOUND.names])
    write_buckets(work.uri(PARENT_KEYS, number), found, by_checksum(digests, work.num_partitions))
    pixels = _as_bytes(rows["pixels_sha256"].to_pylist(), 32)
    known = pa.table({"pixels": pixels, "split": found["split"]})
    first = np.flatnonzero(np.isin(starts[:-1], np.arange(start, stop)))
    places = starts[first] - start
    splits, ratios = (rows[name].take(pa.array(places)).to_pylist() for name in ("split", "aspect_ratio"))
    told = {"shards": list(zip(first.tolist(), splits, ratios, strict=True))}
    return known, by_checksum(pixels, work.num_partitions), told


@writes(KEYS)
def name_repeats(work: Workspace, number: int, parent: ParentRows | None) -> Work:
    """Task of a partition: number equal samples in the order of their rows, and look them up in an earlier version."""
    rows = read_bucket(work.of_chunks(KEYS_IN), number).sort_by("row").combine_chunks()
    digests = as_rows(rows["digest"])
    earlier = earlier_equals(digests)
    found = pa.table({"row": rows["row"], "number": pa.array(earlier)})
    chosen = earlier > 0
    if parent is not None:
        files = [work.uri(PARENT_KEYS, place) for place in range(len(parent.ranges))]
        before = read_bucket(files, number)
        places = pc.index_in(numbered_keys(digests, earlier), value_set=before["key"].combine_chunks())
        for each in _FOUND:
            found = found.append_column(each.name, before[each.name].take(places.combine_chunks()))
        chosen |= np.asarray(pc.is_valid(places).to_numpy(zero_copy_only=False), bool)
    found = found.filter(pa.array(chosen))
    return found, work.chunks_of(found["row"]), {"rows": rows.num_rows}


@writes(PIXELS)
def match_pixels(work: Workspace, number: int, parent: ParentRows) -> Work:
    """Task of a partition: tell in which split an earlier version has pictures with the same pixels."""
    rows = read_bucket(work.of_chunks(PIXELS_IN), number)
    files = [work.uri(PARENT_PIXELS, place) for place in range(len(parent.ranges))]
    before = read_bucket(files, number)
    # Of several splits the last one counts.
    splits = dict(zip(before["pixels"].to_pylist(), before["split"].to_pylist(), strict=True))
    known = pa.array([splits.get(value) for value in rows["pixels"].to_pylist()], pa.string())
    found = pa.table({"row": rows["row"], "split": known}).filter(pc.is_valid(known))
    return found, work.chunks_of(found["row"]), {"rows": found.num_rows}


def staying_shards(
    shards: Sequence[ShardInfo],
    groups: Int[np.ndarray, " s"],
    held: Int[np.ndarray, " s"],
    totals: Sequence[int],
    limits: ShardLimits,
) -> list[list[int]]:
    """Return for each group the numbers of the earlier version's shards that stay as they are.

    A shard stays if all its samples are wanted in its group. Where new shards are written anyway, small ones join them.

    Args:
        groups: Number of the split and ratio of each shard; -1 for a ratio that is no longer asked for.
        held: Number of samples of each shard that are wanted in its own group.
        limits: Largest size of a shard.
    """
    found = []
    for group, total in enumerate(totals):
        own = np.flatnonzero(groups == group).tolist()
        whole = [place for place in own if held[place] == shards[place].num_samples]
        loose = total - sum(shards[place].num_samples for place in whole)
        found.append([place for place in whole if not loose or not is_small(shards[place], limits)])
    return found


def group_numbers(told: Sequence[Told], ratios: Sequence[float], number: int) -> Int[np.ndarray, " s"]:
    """Return the number of the split and ratio of each shard, from what the tasks of ``index_parent`` told."""
    groups = np.full(number, -1, np.int64)
    places = {ratio: place for place, ratio in enumerate(ratios)}
    for each in told:
        for shard, split, ratio in each["shards"]:
            if ratio in places:
                groups[shard] = places[ratio] + len(ratios) * SPLITS.index(split)
    return groups


def _as_bytes(texts: Sequence[str], width: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([bytes.fromhex(text) for text in texts], pa.binary(width))])


@writes(LISTED)
def find_again(work: Workspace, number: int, parent: ParentRows) -> Work:
    """Task of a part of an earlier version: write the pixels of pictures that the takedown list names."""
    found = listed_pixels(samples_of(parent.piece(number)), work.takedown)
    return pa.table({"pixels": pa.array(sorted(found), pa.binary(32))}), None, {"rows": len(found)}


@writes(KEPT)
def keep_again(work: Workspace, number: int, parent: ParentRows) -> Work:
    """Task of a part of an earlier version: write the samples that were not taken down."""
    listed = frozenset(read_bucket(work.of_chunks(LISTED))["pixels"].to_pylist()) if work.takedown else frozenset()
    samples = samples_of(parent.piece(number), parent.ranges[number][0])
    kept, taken = split_taken_down(samples, work.takedown, listed)
    return kept, None, ChunkCounts(tally=taken, kept=kept.num_rows).to_json()
