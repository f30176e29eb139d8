"""Several data sets in one training: their pictures as one set, each set with repeats, a trigger word and a template.

The rows of a mixture are those of its sets, one set behind the other, so that whoever reads a manifest reads a mixture.
Which pictures make up step n stays a pure function of the step's number (decision 8): a round of ``BatchPlan`` holds
each picture as often as its set is repeated.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from infinity import storage
from infinity.config import Config, digest_of
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.manifest_head import ManifestHead
from infinity.data.dataset.manifest_rows import FULL_SCHEMA

_MOST_REPEATS = 64
_NEAR = 0.01
"""Largest share by which whole repeats may miss the wanted ones; of several that do, the smallest are taken."""

_PLACE = "{caption}"
_REPEATED = re.compile(r"(?:^|/)(\d{1,4})_[^/]*/[^/]*$")
"""A picture in a folder with repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareConfig(Config):
    """Settings of one data set in a training.

    Attributes:
        repeats: How often each picture comes, relative to the other sets.
        weight: Share of the pictures of a training that come from this set, relative to the other weights and whatever
            the size of the sets; None for ``repeats``.
        trigger: Words that stand before each caption, with a comma behind them; empty for none.
        template: Text with ``{caption}`` in it that takes the place of each caption, behind the trigger words.
        folder_repeats: Whether pictures of a folder whose name begins with a number, such as ``10_cat``, come that many
            times as often, as in kohya's trainers.
    """

    repeats: float = 1.0
    weight: float | None = None
    trigger: str = ""
    template: str = _PLACE
    folder_repeats: bool = False

    def __post_init__(self) -> None:
        if self.repeats <= 0 or (self.weight is not None and self.weight <= 0):
            raise ValueError(
                f"ShareConfig: expected repeats and weight above 0, got {self.repeats} and {self.weight}; leave a set "
                "out of the training instead"
            )
        if self.template.count(_PLACE) != 1:
            raise ValueError(f"ShareConfig.template: expected {_PLACE} once, got {self.template!r}")

    def dress(self, caption: str) -> str:
        """Return a caption with trigger words and template.

        Example:
            >>> ShareConfig(trigger="sks", template="a photo of {caption}").dress("a cat")
            'sks, a photo of a cat'
        """
        trigger = f"{self.trigger}, " if self.trigger else ""
        return trigger + self.template.replace(_PLACE, caption)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetConfig(Config):
    """A further data set of a training.

    Attributes:
        manifest: URI of its manifest.
        share: Settings of the set.
    """

    manifest: str
    share: ShareConfig = field(default_factory=ShareConfig)


def load_sets(manifest: str, share: ShareConfig, further: Sequence[SetConfig]) -> Manifest:
    """Return the data of a training: a manifest, or a mixture where there are several or captions change.

    Raises:
        ManifestError: A file is no manifest.
        ValueError: A set has a weight and another one has none, or a set has no pictures to train on.
        StorageError: A file is missing or unreadable.
    """
    first = Manifest.load(manifest)
    if not further and share.dress("") == "" and not share.folder_repeats:
        return first
    return Mixture([first, *(Manifest.load(each.manifest) for each in further)], [share, *(s.share for s in further)])


class Mixture(Manifest):
    """Data sets one behind the other, as one manifest that lies nowhere.

    Attributes:
        repeats: How often the pictures of each set come in a round, those of a folder with repeats so much oftener.
    """

    def __init__(self, sets: Sequence[Manifest], shares: Sequence[ShareConfig]) -> None:
        """Compose a mixture.

        Args:
            sets: The data sets, at least one.

        Raises:
            ValueError: A set has a weight and another one has none, or a set has no pictures to train on.
        """
        shards = tuple(
            info.replace(path=each.shard_uri(info.path)) for each in sets for info in each.head.shards
        )  # of two versions that share a shard, it is there twice
        head = ManifestHead(counts={}, unreadable={}, shards=shards, spec={})
        super().__init__(uri=sets[0].uri, head=head, table=FULL_SCHEMA.empty_table())
        self._sets, self._shares = tuple(sets), tuple(shares)
        self._starts = list(accumulate(map(len, sets), initial=0))
        by_folder = [_folder_repeats(each, share) for each, share in zip(sets, shares, strict=True)]
        numbers = [int(own[each.rows("train")].sum()) for each, own in zip(sets, by_folder, strict=True)]
        self.repeats = whole_repeats(_wanted(sets, shares, numbers))
        self._row_repeats = np.concatenate([n * own for n, own in zip(self.repeats, by_folder, strict=True)])
        if len(sets) > 1 or shares[0].folder_repeats:
            named = [[each.digest, share.folder_repeats] for each, share in zip(sets, shares, strict=True)]
            self._saved_digest = digest_of([named, self.repeats])
        else:
            self._saved_digest = sets[0].digest

    def __len__(self) -> int:
        return self._starts[-1]

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all sets, one behind the other; shards are named by their URIs.

        Raises:
            ManifestError: A file is damaged.
        """
        parts: list[pa.Array] = []
        for number, each in enumerate(self._sets):
            if name == "further" and not each.has_further:
                parts.append(pa.nulls(len(each), pa.string()))
                continue
            column = each.column(name).cast(FULL_SCHEMA.field(name).type)
            if name in ("shard", "source"):
                values = [self._named(name, number, value) for value in column.to_pylist()]
                column = pa.chunked_array([pa.array(values, pa.string())])
            parts += column.chunks
        return pa.chunked_array(parts, FULL_SCHEMA.field(name).type)

    def values(self, name: str, rows: Sequence[int] | np.ndarray) -> list[Any]:
        """Return values of a column in some rows, in their order; shards are named by their URIs.

        Raises:
            ManifestError: A file is damaged.
        """
        found: list[Any] = []
        for row in rows:
            number, inside = self._place(int(row))
            (value,) = self._sets[number].values(name, [inside])
            found.append(self._named(name, number, value))
        return found

    def captions(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the captions of the rows with trigger words and templates, in their order.

        Raises:
            ManifestError: A file is damaged, or a row has none.
        """
        return [self.dress(int(row), text) for row, text in zip(rows, super().captions(rows), strict=True)]

    def dress(self, row: int, caption: str) -> str:
        """Return a caption with the trigger words and the template of the row's set."""
        return self._shares[self._place(row)[0]].dress(caption)

    def repeats_of(self, rows: np.ndarray) -> np.ndarray:
        """Return how often the pictures of some rows come in a round."""
        return np.asarray(self._row_repeats[rows])

    def further(self, rows: Sequence[int] | np.ndarray) -> list[list[str]]:
        """Return the captions of some rows that may stand for ``caption``, in their order.

        Raises:
            ManifestError: A file is damaged.
        """
        found: list[list[str]] = []
        for row in rows:
            number, inside = self._place(int(row))
            found += self._sets[number].further([inside])
        return found

    def place(self, row: int) -> tuple[str, int, int]:
        """Return the URI of the shard, offset and number of bytes of one picture.

        Raises:
            ManifestError: The shard would lie outside of its data set.
        """
        number, inside = self._place(row)
        return self._sets[number].place(inside)

    def shard_uri(self, path: str) -> str:
        """Return the name of a shard, which is its URI in a mixture: the sets have checked it."""
        return path

    def _place(self, row: int) -> tuple[int, int]:
        number = bisect_right(self._starts, row) - 1
        if not 0 <= row < self._starts[-1]:
            raise IndexError(f"expected rows 0 to {self._starts[-1] - 1}, got {row}")
        return number, row - self._starts[number]

    def _named(self, name: str, number: int, value: Any) -> Any:
        if name == "shard":
            return self._sets[number].shard_uri(value)
        # Two sets may have pictures of one name, and a training skips pictures by their names.
        return (
            f"{storage.name(storage.parent(self._sets[number].uri))}: {value}" if name == "source" and number else value
        )


def whole_repeats(wanted: Sequence[float]) -> tuple[int, ...]:
    """Return small whole numbers in nearly the same proportions, each at least 1.

    Example:
        >>> whole_repeats([1.0, 2.5]), whole_repeats([3.0, 3.0]), whole_repeats([0.1, 1.0])
        ((2, 5), (1, 1), (1, 10))
    """
    smallest = min(wanted)
    best: tuple[float, tuple[int, ...]] = (np.inf, (1,) * len(wanted))
    for factor in range(1, _MOST_REPEATS + 1):
        exact = [factor * value / smallest for value in wanted]
        whole = tuple(max(1, round(value)) for value in exact)
        error = max(abs(number - value) / value for number, value in zip(whole, exact, strict=True))
        if error < best[0]:
            best = (error, whole)
        if error <= _NEAR:
            break
    return best[1]


def _folder_repeats(manifest: Manifest, share: ShareConfig) -> np.ndarray:
    """Return how often each picture comes by the name of its folder; once, where that says nothing or is not asked."""
    if not share.folder_repeats:
        return np.ones(len(manifest), np.int64)
    found = (_REPEATED.search(name or "") for name in manifest.column("source").to_pylist())
    return np.array([max(1, int(match[1])) if match else 1 for match in found], np.int64)


def _wanted(sets: Sequence[Manifest], shares: Sequence[ShareConfig], numbers: Sequence[int]) -> list[float]:
    """Return the wanted repeats of each set, up to a common factor."""
    if absent := [each.uri for each, number in zip(sets, numbers, strict=True) if not number]:
        raise ValueError(f"{absent[0]}: expected pictures in the split 'train', found none")
    weights = [share.weight for share in shares if share.weight is not None]
    if not weights:
        return [share.repeats for share in shares]
    if len(weights) < len(shares):
        raise ValueError(
            f"weights: expected one for each of {len(shares)} data sets or for none, got {len(weights)}; give each set "
            "a weight, or all sets repeats"
        )
    return [weight / number for weight, number in zip(weights, numbers, strict=True)]
