"""Which columns of a table hold the picture, its address on the web, and its captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import Config
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.samples import CaptionChoice, Record, RowCaptions

FREE_PICTURE_COLUMNS = ("image_path",)
"""Columns of the reference's own tables, whose paths may be absolute or URIs."""

PICTURE_COLUMNS = ("file_name", *FREE_PICTURE_COLUMNS)
URL_COLUMNS = ("url", "image_url", "img_url", "image_link", "photo_image_url")
LONG_COLUMNS = ("long_caption", "caption_long", "dense_caption", "detailed_caption")
SHORT_COLUMNS = ("text", "caption", "short_caption", "caption_short", "alt_text", "alt", "title", "description")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceColumns(Config):
    """Names of a source's columns where guessing is not enough; None guesses.

    Guesses ignore upper and lower case, and the first of several names counts: ``file_name`` or ``image_path`` for
    pictures (in Parquet ``image``, ``bytes`` or ``path``), ``url`` or ``image_url`` for addresses, ``long_caption`` for
    long captions, and ``text`` or ``caption`` for short or only ones.

    Attributes:
        picture: Column of the picture's bytes or its file.
        url: Column of the picture's address on the web.
        long_caption: Column of the long caption.
        caption: Column of the short or only caption.
    """

    picture: str | None = None
    url: str | None = None
    long_caption: str | None = None
    caption: str | None = None

    def pictures(self, found: Iterable[str], guesses: tuple[str, ...] = PICTURE_COLUMNS) -> tuple[str, ...]:
        """The columns of ``found`` that may name a picture, the likeliest first."""
        return _among(found, self.picture, guesses)

    def urls(self, found: Iterable[str]) -> tuple[str, ...]:
        """The columns of ``found`` that may hold an address."""
        return _among(found, self.url, URL_COLUMNS)

    def longs(self, found: Iterable[str]) -> tuple[str, ...]:
        """The columns of ``found`` that may hold a long caption."""
        return _among(found, self.long_caption, LONG_COLUMNS)

    def shorts(self, found: Iterable[str]) -> tuple[str, ...]:
        """The columns of ``found`` that may hold a short or only caption."""
        return _among(found, self.caption, SHORT_COLUMNS)

    def captions_of(self, fields: Mapping[str, Any], choice: CaptionChoice) -> RowCaptions:
        """The captions of one row.

        Raises:
            UnreadableError: One is neither a text nor missing.
        """
        names = tuple(fields)
        return RowCaptions.of(_text(fields, self.longs(names)), _text(fields, self.shorts(names)), choice)

    def record_of(
        self, fields: Mapping[str, Any], *, row: int, where: str, folder: str, choice: CaptionChoice, raw: bytes
    ) -> Record:
        """The record of one row whose picture lies in a file of its own, or somewhere on the web.

        Args:
            fields: The row's cells by column.
            row: Its number.
            where: What to call a row that names no picture.
            folder: URI of the table's folder.
            choice: Which caption is wanted.
            raw: The row as it was found.
        """
        names = tuple(fields)
        name, place = where, ""
        try:
            column, image = _first_text(fields, self.pictures(names))
            _, url = _first_text(fields, self.urls(names))
            name = image or url or where
            if not image and not url:
                raise UnreadableError("bad_row", "names no picture (file_name or image_path) and no url")
            free = column.lower() in FREE_PICTURE_COLUMNS
            place = place_of(folder, image, free=free) if image else url
            captions = self.captions_of(fields, choice)
        except UnreadableError as error:
            return Record(row=row, name=name, image=place, problem=error, raw=raw)
        return Record(
            row=row,
            name=name,
            image=place,
            caption=captions.caption,
            caption_long=captions.caption_long,
            caption_short=captions.caption_short,
            url=url or None,
        )


def place_of(folder: str, name: str, *, free: bool) -> str:
    """URI of a picture that a table names.

    A table from a stranger must not make us open files that are none of its own: its pictures lie below its folder. The
    reference's tables and Parquet paths (``free``) may also hold URIs in S3 and, if the table lies on this machine,
    absolute paths; then whoever put the table here could read them anyway.

    Raises:
        UnreadableError: The name leads out of the source.
    """
    here = storage.local_path(folder) is not None
    if name.startswith(("s3://", "http://", "https://")):
        outside = not free
    elif name.startswith("/") or "://" in name:
        outside = not (free and here)
    else:
        outside = _climbs(name)
    if outside:
        raise UnreadableError("outside_source", f"{name!r} leads out of the source")
    if "://" in name or name.startswith("/"):
        return name
    return storage.join(folder, name.removeprefix("./"))


def _climbs(name: str) -> bool:
    depth = 0
    for part in name.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _among(found: Iterable[str], chosen: str | None, guesses: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(found)
    if chosen is not None:
        return (chosen,) if chosen in names else ()
    return tuple(name for guess in guesses for name in names if name.lower() == guess)


def _first_text(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, str]:
    """Column and content of the first that is not empty; two empty texts if there is none."""
    for name in names:
        value = fields[name]
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise UnreadableError("bad_row", f"expected a text as {name}, found {type(value).__name__}")
        return name, value
    return "", ""


def _text(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = fields[name]
        if value is not None and not isinstance(value, str):
            raise UnreadableError("bad_row", f"expected a text or null as {name}, found {type(value).__name__}")
        if value and value.strip():
            return value
    return None
