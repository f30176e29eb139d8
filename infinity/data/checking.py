"""The first pass over a source: open every picture of a slice, judge it, and remember small facts about the good ones.

Pixels never leave this pass; one picture is in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa

from infinity import storage
from infinity.data.decoding import Decoded, UnreadableError, decode
from infinity.data.filters import FilterConfig, Rule, clean_caption, first_reason
from infinity.data.samples import Record, Sample
from infinity.data.sources import Slice

UNREADABLE = "unreadable"
EXAMPLES = 5
"""How many examples are kept for each reason."""

MAX_FILE_BYTES = 2**28
"""Larger files are not read to the end; no picture within the pixel limit needs more."""

CANDIDATES = pa.schema(
    [
        ("row", pa.int64()),
        ("name", pa.string()),
        ("caption", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("extension", pa.string()),
        ("keep_bytes", pa.bool_()),  # whether the original file can be stored as it is
        ("content", pa.binary(32)),  # sha256 of the file as it was read
        ("pixels", pa.binary(32)),  # sha256 of size and pixels
    ]
)
"""What is remembered of a picture that passed its rules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Counts that add up: of records read, and of those left out by reason, with the first few examples of each."""

    read: int = 0
    dropped: dict[str, int]
    unreadable: dict[str, int]
    examples: dict[str, tuple[str, ...]]

    def __add__(self, other: Tally) -> Tally:
        examples = {
            reason: (self.examples.get(reason, ()) + other.examples.get(reason, ()))[:EXAMPLES]
            for reason in self.examples | other.examples
        }
        return Tally(
            read=self.read + other.read,
            dropped=_added(self.dropped, other.dropped),
            unreadable=_added(self.unreadable, other.unreadable),
            examples=examples,
        )

    @classmethod
    def of(cls, *, read: int = 0, dropped: str = "", unreadable: str = "", example: str = "") -> Tally:
        """The tally of one record: read, and perhaps left out for a reason."""
        key = f"{UNREADABLE}_{unreadable}" if unreadable else dropped
        return cls(
            read=read,
            dropped={dropped: 1} if dropped else {},
            unreadable={unreadable: 1} if unreadable else {},
            examples={key: (printable(example),)} if key else {},
        )

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """All together, examples in the given order."""
        return reduce(cls.__add__, tallies, cls.of())


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What the first pass found in one slice."""

    candidates: pa.Table
    tally: Tally


def check_slice(piece: Slice, filters: FilterConfig) -> Checked:
    """Open and judge every picture of a slice.

    Raises:
        StorageError: A bucket that does not exist, refused credentials: the place is wrong, not a picture.
    """
    rules = filters.rules()
    rows, tallies = [], []
    for record in piece.read():
        row, tally = check_record(record, rules, filters.max_pixels)
        tallies.append(tally)
        if row is not None:
            rows.append(row)
    return Checked(candidates=pa.Table.from_pylist(rows, schema=CANDIDATES), tally=Tally.sum(tallies))


def check_record(record: Record, rules: tuple[Rule, ...], max_pixels: int) -> tuple[dict[str, object] | None, Tally]:
    """The facts about one picture, or None if it is left out; and what to count."""
    try:
        data = fetch(record)
        picture = decode(data, max_pixels)
    except UnreadableError as error:
        return None, Tally.of(read=1, unreadable=error.reason, example=f"{record.name}: {error.reason}, {error.detail}")
    sample = Sample(width_px=picture.image.width, height_px=picture.image.height, caption=clean_caption(record.caption))
    if reason := first_reason(sample, rules):
        return None, Tally.of(read=1, dropped=reason, example=_example(record, sample))
    return _facts(record, sample, data, picture), Tally.of(read=1)


def fetch(record: Record) -> bytes:
    """The bytes of a record's picture.

    Raises:
        UnreadableError: The row is bad, or its file is missing or not accessible.
        StorageError: The bucket or the credentials are wrong.
    """
    if record.problem is not None:
        raise record.problem
    if isinstance(record.image, bytes):
        return record.image
    try:
        data = storage.read_bytes(record.image, start=0, length=MAX_FILE_BYTES + 1)
    except storage.FileMissingError as error:
        raise UnreadableError("missing_file", "there is no such file") from error
    except storage.StorageError as error:
        if record.image.startswith("s3://"):
            raise  # a refused or unreachable bucket would otherwise look like thousands of broken pictures
        raise UnreadableError("not_accessible", str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableError("file_too_large", f"more than {MAX_FILE_BYTES:,} bytes")
    return data


def printable(text: str) -> str:
    """The text with control characters and lone surrogates spelled out, so that it can be written anywhere."""
    return "".join(_spelled(text))


def _spelled(text: str) -> Iterator[str]:
    for char in text:
        yield char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _facts(record: Record, sample: Sample, data: bytes, picture: Decoded) -> dict[str, object]:
    return {
        "row": record.row,
        "name": printable(record.name),
        "caption": sample.caption,
        "width_px": sample.width_px,
        "height_px": sample.height_px,
        "extension": picture.extension,
        "keep_bytes": picture.keep_bytes,
        "content": hashlib.sha256(data).digest(),
        "pixels": picture.pixels_sha256,
    }


def _example(record: Record, sample: Sample) -> str:
    caption = sample.caption if len(sample.caption) <= 80 else sample.caption[:79] + "…"
    return f"{record.name} ({sample.width_px} x {sample.height_px}): {caption!r}"


def _added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted(a | b)}
