"""Rows of a table that name the same picture: one row with several captions, at the place of the first one."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from infinity.data.sources.fence import Slice
from infinity.data.sources.samples import Record


@dataclass(frozen=True, slots=True)
class Joined:
    """A slice some of whose rows carry the captions of further rows, which it leaves out.

    Attributes:
        captions: Further captions by row.
        left_out: Rows that another one carries.
    """

    piece: Slice
    captions: Mapping[int, tuple[str, ...]]
    left_out: frozenset[int]

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        return self.piece.first_row

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records, or those of ``wanted`` rows."""
        for record in self.piece.read(wanted):
            if record.row in self.left_out:
                continue
            further = self.captions.get(record.row)
            yield replace(record, further=further) if further else record


class RepeatedPictures:
    """Rows of one table whose pictures come more than once; 16 bytes are held of each row."""

    def __init__(self) -> None:
        self._rows, self._hashes = array("q"), array("q")

    def add(self, record: Record, file: str) -> None:
        """Note a row and the file that it names."""
        if _can_join(record):
            self._rows.append(record.row)
            self._hashes.append(hash(file))

    def join(self, pieces: Sequence[Slice], match: Callable[[str], str]) -> tuple[list[Slice], int]:
        """Return the slices with the rows of one picture joined, and how many rows others carry now.

        A row joins the first one of its picture if it has another caption. A row that repeats one stays, to be counted
        as a duplicate.

        Args:
            match: Function from the name of a picture in the table to the file that is meant.
        """
        repeated = self._repeated()
        if not repeated:
            return list(pieces), 0
        captions, left_out = _further(pieces, match, repeated)
        edges = [piece.first_row for piece in pieces]
        joined: list[Slice] = []
        for piece, end in zip(pieces, [*edges[1:], max(repeated) + 1], strict=True):
            out = frozenset(left_out[bisect_left(left_out, piece.first_row) : bisect_left(left_out, end)])
            here = {row: texts for row, texts in captions.items() if piece.first_row <= row < end}
            part = Joined(piece, here, out) if here or out else piece
            if not out or next(part.read(), None) is not None:  # else others carry all its rows
                joined.append(part)
        return joined, len(left_out)

    def _repeated(self) -> list[int]:
        """Return rows, ascending, whose hash another row has too."""
        _, inverse, numbers = np.unique(np.array(self._hashes), return_inverse=True, return_counts=True)
        return np.array(self._rows)[numbers[inverse] > 1].tolist()  # type: ignore[no-any-return]


def _further(
    pieces: Sequence[Slice], match: Callable[[str], str], repeated: list[int]
) -> tuple[dict[int, tuple[str, ...]], list[int]]:
    """Return further captions by row, and the rows that they come from, ascending."""
    first: dict[str, int] = {}
    known: dict[int, list[str]] = {}
    left_out: list[int] = []
    edges = [piece.first_row for piece in pieces]
    for index in sorted({bisect_right(edges, row) - 1 for row in repeated}):
        for record in pieces[index].read(frozenset(repeated)):
            row = first.setdefault(match(str(record.image)), record.row)
            captions = known.setdefault(row, [])
            new = [text for text in (record.caption or "", *record.further) if text not in captions]
            if new and row != record.row:
                left_out.append(record.row)
            captions += new
    return {row: tuple(captions[1:]) for row, captions in known.items() if len(captions) > 1}, left_out


def names_file(record: Record) -> bool:
    """Return whether a row names a file, and not an address."""
    return isinstance(record.image, str) and bool(record.image) and record.image != record.url


def _can_join(record: Record) -> bool:
    """Return whether a row is nothing but a picture's file and captions of one kind."""
    return record.problem is None and bool((record.caption or "").strip()) and record.caption_long is None
