"""Which pictures repeat another one, and which of them stays.

The survivor is chosen by content, never by who came first: rows are taken in an order of preference, and a row is
dropped if it repeats one that stays. So every dropped row repeats a survivor itself, no chain of likenesses joins what
is not alike, and neither the order nor the partition of the source matters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8

from infinity.data.alignment import coarse_difference, thumbnail_difference
from infinity.data.filters import CaptionDuplicates, NearDuplicates
from infinity.data.hamming import near_pairs
from infinity.data.likeness import THUMBNAIL_PX
from infinity.data.minhash import similar_captions

_MAX_STRETCH = 0.08
"""How far the logarithm of the aspect ratio may differ: a crop of 5 % along one axis, and a little for rounding."""

_COARSE_SLACK = 24.0
"""By how many levels the 4 x 4 means of a crop may differ beyond what its aligned thumbnail may."""

_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Match:
    """The row at ``index`` is dropped because of something that stays, which ``detail`` names."""

    index: int
    detail: str


def preference(rows: pa.Table) -> Int[np.ndarray, " n"]:
    """Indices of rows from the one that is kept rather to the one that is dropped rather.

    More pixels first, then more bytes (less was lost in encoding), then the longer caption; then by checksum, caption
    and name, which decide between what is equally good. Only rows that are equal in all of this go by their number.
    """
    columns = {
        name: rows[name].to_pylist()
        for name in ("width_px", "height_px", "num_bytes", "content", "caption", "name", "row")
    }
    keys = [
        (-width * height, -num_bytes, -len(caption), content, caption, name, row)
        for width, height, num_bytes, content, caption, name, row in zip(*columns.values(), strict=True)
    ]
    return np.array(sorted(range(rows.num_rows), key=keys.__getitem__), np.int64)


def exact_duplicates(rows: pa.Table, duplicates: str) -> list[Match]:
    """All but the preferred one of rows with the same pixels, as ``FilterConfig.duplicates`` defines them."""
    if duplicates == "keep":
        return []
    pixels, captions = rows["pixels"].to_pylist(), rows["caption"].to_pylist()
    names = rows["name"]
    first: dict[tuple[bytes, str], int] = {}
    matches = []
    for index in preference(rows).tolist():
        key = (pixels[index], captions[index] if duplicates == "picture_and_caption" else "")
        if (original := first.setdefault(key, index)) != index:
            matches.append(Match(index, f"same as {names[original].as_py()}"))
    return matches


def near_duplicates(rows: pa.Table, limits: NearDuplicates, partitions: int = 1) -> list[Match]:
    """Rows whose picture is nearly that of a preferred row that stays.

    Args:
        rows: Columns of ``FACTS`` of readable pictures.
        limits: What counts as near.
        partitions: As ``near_pairs``.
    """
    order = preference(rows)
    looks = _looks(rows.take(pa.array(order)))
    first, look_of = np.unique(looks, return_index=True, return_inverse=True)[1:]
    ranked = rows.take(pa.array(order[first]))  # one row a look: the preferred one
    pairs = similar_pictures(ranked, limits, partitions)
    by_rank = first.tolist()
    links = [(by_rank[i], by_rank[j]) for i, j in zip(*(side.tolist() for side in pairs), strict=True)]
    twins = {rank: by_rank[look] for rank, look in enumerate(look_of.tolist()) if by_rank[look] != rank}
    return _matches(rows, order, "nearly", _greedy(links, twins))


def similar_pictures(
    rows: pa.Table, limits: NearDuplicates, partitions: int = 1
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """All pairs i < j of rows that are near by hash, then by shape, by 4 x 4 means, and by aligned thumbnails."""
    left, right = near_pairs(rows["phash"].to_numpy(), limits.distance, partitions)
    pictures = thumbnails_of(rows)
    ratios = np.log(rows["height_px"].to_numpy() / rows["width_px"].to_numpy())
    slack = _MAX_STRETCH + 1.0 / np.minimum(rows["height_px"].to_numpy(), rows["width_px"].to_numpy())
    near = np.abs(ratios[left] - ratios[right]) <= np.maximum(slack[left], slack[right])
    left, right = left[near], right[near]
    for measure, limit in (
        (coarse_difference, _COARSE_SLACK + limits.difference),
        (thumbnail_difference, limits.difference),
    ):
        near = np.empty(len(left), bool)
        for at in range(0, len(left), _AT_ONCE):
            piece = slice(at, at + _AT_ONCE)
            near[piece] = measure(pictures[left[piece]], pictures[right[piece]]) <= limit
        left, right = left[near], right[near]
    return left, right


def caption_duplicates(rows: pa.Table, limits: CaptionDuplicates) -> list[Match]:
    """Rows whose caption nearly repeats that of a preferred row that stays."""
    order = preference(rows)
    captions = rows["caption"].take(pa.array(order)).to_pylist()
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for rank, pixels in enumerate(rows["pixels"].take(pa.array(order)).to_pylist()):
        groups[b"" if limits.scope == "anywhere" else pixels].append(rank)
    links: list[tuple[int, int]] = []
    twins: dict[int, int] = {}
    for ranks in groups.values():
        pairs, equal = similar_captions([captions[rank] for rank in ranks], limits.similarity)
        links += [(ranks[a], ranks[b]) for a, b in pairs]
        twins |= {ranks[a]: ranks[b] for a, b in equal.items()}
    return _matches(rows, order, "caption of", _greedy(links, twins))


def _matches(rows: pa.Table, order: Int[np.ndarray, " n"], word: str, dropped: Mapping[int, int]) -> list[Match]:
    names = rows["name"]
    return [Match(int(order[rank]), f"{word} {names[int(order[kept])].as_py()}") for rank, kept in dropped.items()]


def _looks(rows: pa.Table) -> np.ndarray:
    """Bytes that are equal for rows that no comparison could tell apart."""
    columns = [rows[name].to_pylist() for name in ("phash", "thumbnail", "width_px", "height_px")]
    return np.array([b"%d,%d,%d," % (h, x, y) + t for h, t, x, y in zip(*columns, strict=True)], dtype=object)


def thumbnails_of(rows: pa.Table) -> UInt8[np.ndarray, "n 16 16 3"]:
    """The thumbnails of readable pictures, from their facts."""
    data = b"".join(rows["thumbnail"].to_pylist())
    return np.frombuffer(data, np.uint8).reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX, 3)


def _greedy(links: Iterable[tuple[int, int]], twins: Mapping[int, int]) -> dict[int, int]:
    """Of ranks, 0 the best: which are dropped, and for which better one that stays.

    Args:
        links: Pairs of ranks that are near.
        twins: Ranks that nothing tells apart from a better one, and that one; they share its fate, and never stay.
    """
    better: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in links:
        better[max(a, b)].append(min(a, b))
    dropped: dict[int, int] = {}
    for rank in sorted(better):
        if stays := [each for each in better[rank] if each not in dropped]:
            dropped[rank] = min(stays)
    return dropped | {rank: dropped.get(twin, twin) for rank, twin in twins.items()}
