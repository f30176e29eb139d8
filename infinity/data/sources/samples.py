"""The values that travel through the data stage: a row of a source, and a picture with its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
        further: Further captions of the same picture that may stand in the place of ``caption``.
        url: Address on the web where the picture was found, or None.
        problem: Reason why the row cannot be used at all, or None.
        raw: The row as it was found where it has a problem, perhaps only its beginning: what a quarantine keeps.
        found: What a row without a caption has in its place, in words; may be empty.
    """

    row: int
    name: str
    image: str | bytes = b""
    caption: str | None = None
    caption_long: str | None = None
    caption_short: str | None = None
    further: tuple[str, ...] = ()
    url: str | None = None
    problem: UnreadableError | None = None
    raw: bytes = b""
    found: str = ""


@dataclass(frozen=True, slots=True)
class RowCaptions:
    """The captions of one row, or what it has in their place, as fields of a record."""

    caption: str | None = None
    caption_long: str | None = None
    caption_short: str | None = None
    further: tuple[str, ...] = ()
    found: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The captions as arguments of ``Record``."""
        names = ("caption", "caption_long", "caption_short", "further", "found")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, longs: Sequence[str], shorts: Sequence[str], choice: CaptionChoice) -> RowCaptions:
        """Return the captions of the wanted kind, or the others where there are none; both kinds where there are two.

        Args:
            longs: Long captions, none of them blank; the first one counts most.
            shorts: Short captions, likewise.
        """
        chosen = (longs or shorts) if choice == "long" else (shorts or longs)
        if not chosen:
            return cls()
        both = bool(longs) and bool(shorts)
        further = tuple(text for text in dict.fromkeys(chosen) if text != chosen[0])
        return cls(chosen[0], longs[0] if both else None, shorts[0] if both else None, further)
