"""Which pictures repeat another one, and which of them stays.

The survivor is chosen by content, never by who came first: rows are taken in an order of preference, and a row is
dropped if it repeats one that stays. So every dropped row repeats a survivor itself, no chain of likenesses joins what
is not alike, and neither the order nor the partition of the source matters.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, UInt8

from infinity.data.dedup.checksums import as_rows, equal_codes
from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
from infinity.data.dedup.minhash import similar_captions
from infinity.data.dedup.near_duplicates import (
    Fingerprints,
    Thumbnails,
    similar_fingerprints,
    similar_to_known,
    thumbnails_in,
)
from infinity.data.dedup.structure import told_by

_FIRST_BLOCK, _LAST_BLOCK = 256, 1024

_PREFERENCE = (
    ("framed", "ascending"),
    ("num_pixels", "descending"),
    ("num_bytes", "descending"),
    ("caption_length", "descending"),
    ("content", "ascending"),
    ("caption", "ascending"),
    ("name", "ascending"),
    ("row", "ascending"),
)


@dataclass(frozen=True, slots=True)
class Match:
    """The row at ``index`` is dropped because of something that stays, which ``detail`` names."""

    index: int
    detail: str


def preference(rows: pa.Table, framed: Bool[np.ndarray, " n"] | None = None) -> Int[np.ndarray, " n"]:
    """Return indices of rows, the row that is best to keep first.

    Pictures without a frame first, where it is known which have one; more pixels first, then more bytes (less was lost
    in encoding), then the longer caption; then by checksum, caption and name, which decide between what is equally
    good. Only rows that are equal in all of this go by their number.
    """
    columns = {name: rows[name] for name in ("num_bytes", "content", "caption", "name", "row")}
    columns["num_pixels"] = pc.multiply(rows["width_px"].cast(pa.int64()), rows["height_px"].cast(pa.int64()))
    columns["caption_length"] = pc.utf8_length(rows["caption"])
    columns["framed"] = pa.array(np.zeros(rows.num_rows, bool) if framed is None else framed)
    order = pc.sort_indices(pa.table(columns), sort_keys=list(_PREFERENCE))
    return np.asarray(order.to_numpy(), np.int64)


def exact_duplicates(rows: pa.Table, duplicates: str) -> list[Match]:
    """Return all rows with the same pixels but the preferred one, as ``FilterConfig.duplicates`` defines them."""
    if duplicates == "keep":
        return []
    keys = equal_codes(as_rows(rows["pixels"]))
    if duplicates == "picture_and_caption":
        captions = _codes(rows["caption"])
        keys = keys * (captions.max(initial=0) + 1) + captions
    order = preference(rows)
    _, first, group = np.unique(keys[order], return_index=True, return_inverse=True)
    originals = order[first[group]]
    repeats = np.flatnonzero(originals != order)
    names = rows["name"].take(pa.array(originals[repeats])).to_pylist()
    return [Match(index, f"same as {name}") for index, name in zip(order[repeats].tolist(), names, strict=True)]


def near_duplicates(
    rows: pa.Table, limits: NearDuplicates, partitions: int = 1, thumbnails: Thumbnails | None = None
) -> list[Match]:
    """Return rows whose picture is nearly that of a preferred row that stays.

    Rows are looked at in blocks, the best first, and compared with those that stay only: what was dropped needs no
    further comparison. So a thousand versions of one picture cost a thousand comparisons and not half a million, and
    memory does not grow with the number of pairs. A picture whose thumbnail has no structure is near no other one.

    Args:
        rows: Columns of ``FACTS`` of readable pictures.
        partitions: Number of parts that the search is cut into, see ``near_pairs``; the result does not depend on it.
        thumbnails: Function from places in ``rows`` to thumbnails; None takes them from the column ``thumbnail``.
    """
    get = thumbnails or thumbnails_in(rows)
    structured, framed = told_by(rows, get, limits.difference)
    order = preference(rows, framed)
    order = order[structured[order]]
    first, twins = _twins(rows, order, get)
    looks = Fingerprints.of(rows, get).take(order[first])  # one per look: the preferred one
    edges = block_edges(len(first))
    blocks = [np.arange(start, end) for start, end in pairwise(edges)]
    dropped = repeated_looks(looks, blocks, limits, partitions=partitions)
    by_rank = first.tolist()
    fates = {by_rank[look]: by_rank[kept] for look, kept in dropped.items()}
    return _matches(rows, order, "nearly", _with_twins(fates, twins))


def block_edges(number: int) -> list[int]:
    """Return where blocks of pictures that are compared together begin, and where the last one ends."""
    edges = [0]
    while (at := edges[-1]) < number:
        edges.append(min(number, at + min(_LAST_BLOCK, max(_FIRST_BLOCK, at // 16))))
    return edges


def repeated_looks(
    looks: Fingerprints, blocks: Iterable[Int[np.ndarray, " b"]], limits: NearDuplicates, *, partitions: int = 1
) -> dict[int, int]:
    """Return the places of looks that are nearly that of a better one that stays, and the place of that one.

    Args:
        looks: Pictures of different looks, the best first.
        blocks: Places of the pictures that are compared together, in order.
        partitions: Number of parts that the search is cut into; the result does not depend on it.
    """
    dropped: dict[int, int] = {}
    stays = np.empty(0, np.int64)
    for block in blocks:
        both = looks.take(np.concatenate([stays, block]))
        known, new = similar_to_known(both, limits, len(stays), partitions=partitions)
        dropped |= dict(zip(block[new - len(stays)].tolist(), stays[known].tolist(), strict=True))
        rest = np.delete(block, new - len(stays))
        pairs = similar_fingerprints(looks.take(rest), limits, partitions=partitions)
        among = _greedy(zip(*(rest[side].tolist() for side in pairs), strict=True))
        dropped |= among
        stays = np.concatenate([stays, rest[~np.isin(rest, np.fromiter(among, np.int64, len(among)))]])
    return dropped


def caption_duplicates(
    rows: pa.Table, limits: CaptionDuplicates, groups_of: Sequence[Hashable] | None = None
) -> list[Match]:
    """Return rows whose caption nearly repeats that of a preferred row that stays.

    Args:
        rows: Columns of ``FACTS`` of readable pictures.
        groups_of: A value of each row; rows with equal values are compared. None takes what the limits' scope says.
    """
    order = preference(rows)
    if groups_of is None:
        groups_of = [b""] * rows.num_rows if limits.scope == "anywhere" else rows["pixels"].to_pylist()
    captions = rows["caption"].take(pa.array(order)).to_pylist()
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for rank, place in enumerate(order.tolist()):
        groups[groups_of[place]].append(rank)
    links: list[tuple[int, int]] = []
    twins: dict[int, int] = {}
    for ranks in groups.values():
        pairs, equal = similar_captions([captions[rank] for rank in ranks], limits.similarity)
        links += [(ranks[a], ranks[b]) for a, b in pairs]
        twins |= {ranks[a]: ranks[b] for a, b in equal.items()}
    return _matches(rows, order, "caption of", _with_twins(_greedy(links), twins))


def _matches(rows: pa.Table, order: Int[np.ndarray, " n"], word: str, dropped: Mapping[int, int]) -> list[Match]:
    names = rows["name"]
    return [Match(int(order[rank]), f"{word} {names[int(order[kept])].as_py()}") for rank, kept in dropped.items()]


def _codes(column: pa.ChunkedArray) -> Int[np.ndarray, " n"]:
    """Return a number for each value, equal for equal values."""
    pieces = [piece.indices.to_numpy(zero_copy_only=False) for piece in column.dictionary_encode().chunks]
    return np.concatenate([np.empty(0, np.int64), *pieces], dtype=np.int64, casting="unsafe")


def _twins(
    rows: pa.Table, order: Int[np.ndarray, " n"], thumbnails: Thumbnails
) -> tuple[Int[np.ndarray, " m"], dict[int, int]]:
    """Return ranks with a look of their own, and the better rank of each other one that no comparison tells from it."""
    first: dict[bytes, int] = {}
    twins: dict[int, int] = {}
    columns = [rows[name].to_numpy() for name in ("phash", "width_px", "height_px")]
    for start in range(0, len(order), _FIRST_BLOCK):
        places = order[start : start + _FIRST_BLOCK]
        values = zip(*(column[places].tolist() for column in columns), thumbnails(places), strict=True)
        for rank, look in enumerate(values, start=start):
            key = look_key(*look)
            if (better := first.setdefault(key, rank)) != rank:
                twins[rank] = better
    return np.fromiter(first.values(), np.int64, len(first)), twins


def look_key(phash: int, width: int, height: int, thumbnail: UInt8[np.ndarray, "32 32 3"]) -> bytes:
    """Return 16 bytes that are equal for pictures which no comparison tells apart."""
    return hashlib.sha256(b"%d,%d,%d," % (phash, width, height) + thumbnail.tobytes()).digest()[:16]


def _greedy(links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the ranks to drop and the better rank that stays for each, given pairs of near ranks (0 is the best)."""
    better: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in links:
        better[max(a, b)].append(min(a, b))
    dropped: dict[int, int] = {}
    for rank in sorted(better):
        if stays := [each for each in better[rank] if each not in dropped]:
            dropped[rank] = min(stays)
    return dropped


def _with_twins(dropped: dict[int, int], twins: Mapping[int, int]) -> dict[int, int]:
    """Return the dropped ranks with their twins: a twin shares the fate of its better rank, and never stays."""
    return dropped | {rank: dropped.get(twin, twin) for rank, twin in twins.items()}
