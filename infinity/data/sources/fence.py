"""What a source may name: files below its own folder, and below folders that the user allows besides.

A table, a quarantine or a link from a stranger must not make us open files that are none of its own: their bytes would
end in the data set or in its quarantine. Every form of source is read through ``FencedSlice``, the one place that
checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import is_address
from infinity.data.sources.samples import Record

_ADVICE = "allow the folder as a further root of the source if its files may be used"


class Slice(Protocol):
    """Some rows of a source, from ``first_row`` on."""

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        ...

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records in order of their row; of ``wanted`` rows only, if given."""
        ...


@dataclass(frozen=True, slots=True)
class FencedSlice:
    """A slice whose records name files below ``roots`` only, links resolved; every other becomes ``outside_source``."""

    piece: Slice
    roots: tuple[str, ...]

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        return self.piece.first_row

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records, or those of ``wanted`` rows."""
        is_inside = storage.inside(self.roots)
        for record in self.piece.read(wanted):
            yield _checked(record, is_inside)


@dataclass(frozen=True, slots=True)
class OutsideLinks:
    """Links in a folder, or names in an archive, that lead out of it: one row each; what is there is never read."""

    names: tuple[str, ...]
    first_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per link."""
        problem = UnreadableError(
            "outside_source", f"a link or name that leads out of the source, or to nothing; {_ADVICE}"
        )
        for row, name in enumerate(self.names, start=self.first_row):
            if wanted is None or row in wanted:
                yield Record(row=row, name=name, problem=problem)


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file of a source that cannot be read at all, while others can: one row with the problem."""

    uri: str
    first_row: int
    detail: str

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the one record of the file."""
        if wanted is None or self.first_row in wanted:
            problem = UnreadableError("bad_file", self.detail)
            yield Record(row=self.first_row, name=storage.name(self.uri), problem=problem, raw=self.uri.encode())


@dataclass(frozen=True, slots=True)
class FilesSlice:
    """Pictures of a folder that no table names."""

    uris: tuple[str, ...]
    names: tuple[str, ...]
    first_row: int

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per file."""
        for row, (uri, name) in enumerate(zip(self.uris, self.names, strict=True), start=self.first_row):
            if wanted is None or row in wanted:
                yield Record(row=row, name=name, image=uri)


def fenced(pieces: Sequence[Slice], roots: tuple[str, ...]) -> tuple[Slice, ...]:
    """Return the slices, behind the fence."""
    return tuple(FencedSlice(piece, roots) for piece in pieces)


def _checked(record: Record, is_inside: Callable[[str], bool]) -> Record:
    """Return the record, or the same row with a problem and without a place."""
    place = record.image
    if isinstance(place, bytes) or not place:
        return record
    if place == record.url:  # downloaded first, from public addresses; here it is never opened
        if is_address(place):
            return record
        problem = UnreadableError("url_scheme", f"{place[:100]!r}: expected http or https")
    else:
        try:
            if is_inside(place):
                return record
        except ValueError:  # no file can have this name, which whoever opens it says
            return record
        problem = UnreadableError("outside_source", f"{place[:300]!r} leads out of the source; {_ADVICE}")
    raw = record.raw or place.encode("utf-8", "backslashreplace")
    return replace(record, image=b"", problem=record.problem or problem, raw=raw)
