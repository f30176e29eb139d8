"""Look before filtering: which pictures of a source nearly repeat others, and how far apart the near ones are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from infinity.config import Config
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import FilterConfig
from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.duplicates import near_duplicates
from infinity.data.dedup.near_duplicates import Fingerprints, pair_differences, similar_fingerprints, thumbnails_in
from infinity.data.images.contact_sheet import compose_sheet
from infinity.data.images.decoding import decode
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Slice

MAX_DIFFERENCE = 40
"""Pairs that differ more are not in the histogram; they have nothing to do with each other."""

_CELL_PX = 72


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster(Config):
    """A picture that stays, and those that would be dropped for it, by name."""

    kept: str
    dropped: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateSurvey(Config):
    """Effect that a near-duplicate filter would have on a source.

    Attributes:
        limits: Limits of nearness.
        pictures: Number of pictures that could be read.
        clusters: Largest first.
        differences: Number of pairs within the hash distance for each whole level of difference, 0 to 39.
    """

    limits: NearDuplicates
    pictures: int
    clusters: tuple[Cluster, ...]
    differences: tuple[int, ...]


def survey(slices: Sequence[Slice], limits: NearDuplicates) -> tuple[DuplicateSurvey, bytes]:
    """Measure a source in this process and find near duplicates; no row is judged by anything else.

    Returns:
        The survey, and a PNG sheet with one cluster a row: first the picture that stays.

    Raises:
        StorageError: The source cannot be read.
    """
    facts = pa.concat_tables([measure_slice(piece, FilterConfig().max_pixels).facts for piece in slices])
    readable = facts.filter(pc.is_null(facts["problem"])).combine_chunks()
    names = readable["name"].to_pylist()
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for match in near_duplicates(readable, limits):
        groups[match.detail.removeprefix("nearly ")].append(names[match.index])
    clusters = sorted(
        (Cluster(kept=kept, dropped=tuple(sorted(dropped))) for kept, dropped in groups.items()),
        key=lambda cluster: (-len(cluster.dropped), cluster.kept),
    )
    looks = Fingerprints.of(readable, thumbnails_in(readable))
    pairs = similar_fingerprints(looks, limits.replace(difference=float(MAX_DIFFERENCE)))
    values = pair_differences(looks, *pairs)
    counts = np.histogram(values, bins=np.arange(MAX_DIFFERENCE + 1))[0]
    found = DuplicateSurvey(
        limits=limits, pictures=len(names), clusters=tuple(clusters), differences=tuple(counts.tolist())
    )
    rows = dict(zip(names, readable["row"].to_pylist(), strict=True))
    return found, _sheet(clusters[:40], rows, slices)


def _sheet(clusters: Sequence[Cluster], rows: dict[str, int], slices: Sequence[Slice]) -> bytes:
    """Return at most eight pictures of each cluster in a row."""
    shown = [[cluster.kept, *cluster.dropped][:8] for cluster in clusters]
    wanted = frozenset(rows[name] for names in shown for name in names)
    pictures: dict[str, UInt8[np.ndarray, "H W 3"]] = {}
    for piece in slices:
        for record in piece.read(wanted):
            image = decode(fetch(record), FilterConfig().max_pixels).image
            image.thumbnail((_CELL_PX, _CELL_PX))
            pictures[record.name] = np.asarray(image)
    empty = np.full((_CELL_PX, _CELL_PX, 3), 255, np.uint8)
    cells = [pictures.get(name, empty) for names in shown for name in [*names, *[""] * (8 - len(names))]]
    return compose_sheet(cells or [empty], 8)
