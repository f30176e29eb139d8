"""What the first pass over a source fetches, and the counts of what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.samples import Record

UNREADABLE = "unreadable"
EXAMPLES = 5
"""Number of examples that are kept for each reason."""

MAX_FILE_BYTES = 2**28
"""Larger files are not read to the end; no picture within the pixel limit needs more."""


_MAX_KEY_BYTES = 1024


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
        """Return the tally of one record: read, and perhaps left out for a reason."""
        key = f"{UNREADABLE}_{unreadable}" if unreadable else dropped
        return cls(
            read=read,
            dropped={dropped: 1} if dropped else {},
            unreadable={unreadable: 1} if unreadable else {},
            examples={key: (printable(example),)} if key else {},
        )

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """Return the sum of all tallies, examples in the given order."""
        return reduce(cls.__add__, tallies, cls.of())


def fetch(record: Record) -> bytes:
    """Return the bytes of a record's picture.

    Raises:
        UnreadableError: The row is bad, or its file is missing or not accessible.
        StorageError: The bucket or the credentials are wrong.
    """
    if record.problem is not None:
        raise record.problem
    if isinstance(record.image, bytes):
        return record.image
    if record.image == record.url:
        raise UnreadableError("not_accessible", "lies on the web, and was not downloaded")
    in_s3 = record.image.lower().startswith("s3://")
    if in_s3 and not _is_key(record.image):
        raise UnreadableError("missing_file", "no bucket can hold a key like this")
    try:
        data = storage.read_bytes(record.image, start=0, length=MAX_FILE_BYTES + 1)
    except storage.FileMissingError as error:
        raise UnreadableError("missing_file", "there is no such file") from error
    except storage.StorageError as error:
        if in_s3 or (_is_in_s3_archive(record.image) and not isinstance(error, storage.EntryError)):
            raise  # a refused or unreachable bucket would otherwise look like thousands of broken pictures
        raise UnreadableError("not_accessible", str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableError("file_too_large", f"more than {MAX_FILE_BYTES:,} bytes")
    return data


def _is_in_s3_archive(uri: str) -> bool:
    return uri.lower().startswith("zip://s3://")


def _is_key(uri: str) -> bool:
    """Return whether an S3 URI can name a picture: a server may answer any other as if bucket or credentials failed."""
    try:
        key = uri.split("/", 3)[3].encode()
    except (IndexError, UnicodeEncodeError):
        return False
    return 0 < len(key) <= _MAX_KEY_BYTES and min(key) >= 32 and not {b".", b".."} & set(key.split(b"/"))


def printable(text: str) -> str:
    """Return the text with control characters and lone surrogates spelled out, so that it can be written anywhere."""
    return "".join(_spelled(text))


def _spelled(text: str) -> Iterator[str]:
    for char in text:
        yield char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted(a | b)}
