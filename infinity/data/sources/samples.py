"""The values that travel through the data stage: a row of a source, and a picture with its caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infinity.data.images.decoding import UnreadableError

CaptionChoice = Literal["long", "short"]
"""Caption that is taken where a row has a long and a short one."""


class SourceError(ValueError):
    """A source is empty, of an unknown form, or holds no captions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of a source, its picture not yet opened.

    Attributes:
        row: Position in the source, unique; it orders the data set and names the sample.
        name: Name for people: a file name, or a file name and a row number.
        image: URI of the picture's file, or its bytes; empty where a row with a problem names none.
        caption: Caption as the source gives it; None where the source gives none.
        caption_long: The long caption where the row has a long and a short one, else None.
        caption_short: The short caption, likewise.
        url: Address on the web where the picture was found, or None.
        problem: Reason why the row cannot be used at all, or None.
        raw: The row as it was found where it has a problem, perhaps only its beginning: what a quarantine keeps.
    """

    row: int
    name: str
    image: str | bytes = b""
    caption: str | None = None
    caption_long: str | None = None
    caption_short: str | None = None
    url: str | None = None
    problem: UnreadableError | None = None
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class RowCaptions:
    """The captions of one row, as three fields of a record."""

    caption: str | None
    caption_long: str | None
    caption_short: str | None

    @classmethod
    def of(cls, long: str | None, short: str | None, choice: CaptionChoice) -> RowCaptions:
        """Return the wanted caption, or the other one where that is missing or blank; both where there are two."""
        long, short = (text if text and text.strip() else None for text in (long, short))
        chosen = (long or short) if choice == "long" else (short or long)
        both = long is not None and short is not None
        return cls(chosen, long if both else None, short if both else None)
