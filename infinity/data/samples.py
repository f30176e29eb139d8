"""The values that travel through the data stage: a row of a source, and a picture with its caption."""

from __future__ import annotations

from dataclasses import dataclass

from infinity.data.decoding import UnreadableError


class SourceError(ValueError):
    """A source is empty, of an unknown form, or holds no captions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of a source, its picture not yet opened.

    Attributes:
        row: Position in the source, unique; it orders the data set and names the sample.
        name: What people call it: a file name, or a file name and a row number.
        image: URI of the picture's file, or its bytes.
        caption: As the source gives it; None where it gives none.
        problem: Why the row cannot be used at all, or None.
    """

    row: int
    name: str
    image: str | bytes = b""
    caption: str | None = None
    problem: UnreadableError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What rules judge: the size of a readable picture, upright, and its cleaned caption."""

    width_px: int
    height_px: int
    caption: str
