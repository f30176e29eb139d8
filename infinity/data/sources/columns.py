"""Which columns of a table hold the picture, its address on the web, and its captions."""

from __future__ import annotations

import ast
import io
import json
import posixpath
import re
import tokenize
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from infinity import storage
from infinity.config import Config
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.inline_pictures import picture_in_text
from infinity.data.sources.samples import CaptionChoice, Record, RowCaptions

SURE_COLUMNS = ("file_name", "image_path")
"""Names that mean a file even beside an address; others are then notes about a picture that is yet to be downloaded."""

PICTURE_COLUMNS: tuple[str, ...] = (
    *SURE_COLUMNS,
    "filename",
    "file_path",
    "filepath",
    "image_file",
    "image_name",
    "img_path",
)
PICTURE_COLUMNS += ("image_file_name", "image_filename", "img_name")
PICTURE_COLUMNS += ("image", "img", "file", "path", "picture", "images", "image_id", "file_names")
FILE_NAME_ENDINGS = ("_file_name", "_file_names")
"""How hubs let the column of a picture end; it counts where there is one of them and no name that is guessed."""

TAG_COLUMNS = ("tags", "tag_list", "keywords")
"""Columns whose lists are one caption: they must be named, since tags describe a picture in no language."""

URL_COLUMNS = ("url", "image_url", "img_url", "image_link", "photo_image_url", "urls", "image_urls", "link")
LONG_COLUMNS = ("long_caption", "caption_long", "dense_caption", "detailed_caption", "recaption", "re_caption")
SHORT_COLUMNS: tuple[str, ...] = (
    "text",
    "caption",
    "short_caption",
    "caption_short",
    "alt_text",
    "alt",
    "title",
    "description",
)
SHORT_COLUMNS += ("prompt", "captions", "texts", "sentence", "sentences", "prompts", "top_caption", "blip_caption")
SHORT_COLUMNS += (
    "comment",
    "caption_text",
    "image_caption",
    "caption_str",
    "txt",
    "conversations",
    "vlm_caption",
    "raw",
    "messages",
)
"""Names that are guessed, the likeliest first; docs/sources.md lists them for people."""

TEXT_FIELDS = ("text", "caption", "raw", "value", "content", "assistant", "answer", "en", "english")
"""Fields of a caption that is an object, the likeliest first."""

PLACE_FIELDS = ("path", "file_name", "filename", "src", "url")
"""Fields of a picture that is an object, the likeliest first."""

_MAX_NAME = 300
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_WORD = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"_?\d+$")
_FILE_NAME = re.compile(r"[^\s/]+\.(?:jpe?g|png|webp|gif|heic|avif|tiff?|bmp)", re.IGNORECASE)
_ASKING = ("human", "user", "system")
"""Who speaks, in a conversation about a picture, without describing it."""

HOW_TO_NAME = "name the columns (--image-column, --caption-column; in a spec under columns)"

_MAX_DEPTH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceColumns(Config):
    """Names of a source's columns where guessing is not enough; None guesses.

    Guesses ignore upper and lower case and what separates words (``imagePath``, ``Image Path``), and the first of
    several names counts: ``PICTURE_COLUMNS`` for pictures (in Parquet also ``bytes`` and the formats of pictures),
    ``URL_COLUMNS`` for addresses, ``LONG_COLUMNS`` for long captions, and ``SHORT_COLUMNS`` for short or only ones.
    Captions may be numbered (``caption_0``, ``caption_1``), and are all taken then. A name may lead into an object, or
    into a text of JSON: ``about.caption``.

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

    def pictures(
        self, found: Iterable[str], guesses: tuple[str, ...] = PICTURE_COLUMNS, sure: tuple[str, ...] = SURE_COLUMNS
    ) -> tuple[str, ...]:
        """Return the columns that may name a picture, the likeliest first; only ``sure`` ones beside an address."""
        names = tuple(found)
        chosen = _among(names, self.picture, sure if self.urls(names) else guesses)
        if chosen or self.picture is not None or _guessed(names, PICTURE_COLUMNS, False):
            return chosen
        ends = tuple(
            name for name in names if any(each.endswith(FILE_NAME_ENDINGS) for each in _spellings(name, False))
        )
        return ends if len(ends) == 1 else ()

    def opened(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with the cells that names such as ``about.caption`` lead to.

        Example:
            >>> SourceColumns(caption="about.caption").opened({"about": {"caption": "a cat"}})["about.caption"]
            'a cat'
        """
        chosen = (self.picture, self.url, self.long_caption, self.caption)
        within = [
            name for name in chosen if name is not None and name not in fields and name.partition(".")[0] in fields
        ]
        return {**fields, **{name: _within(fields, name.split(".")) for name in within}} if within else fields

    def beside_addresses(self, found: Iterable[str]) -> tuple[str, ...]:
        """Return columns that name pictures beside an address only where these lie in the source, the likeliest first.

        Example:
            >>> SourceColumns().beside_addresses(["url", "image", "text"]), SourceColumns().beside_addresses(["image"])
            (('image',), ())
        """
        names = tuple(found)
        if self.picture is not None or not self.urls(names) or self.pictures(names):
            return ()
        return _guessed(names, PICTURE_COLUMNS, False)

    def urls(self, found: Iterable[str]) -> tuple[str, ...]:
        """Return the columns of ``found`` that may hold an address; the ``__url__`` of hubs is that of a shard."""
        return _among((name for name in found if not name.startswith("__")), self.url, URL_COLUMNS)

    def longs(self, found: Iterable[str]) -> tuple[str, ...]:
        """Return the columns of ``found`` that may hold a long caption."""
        return _among(found, self.long_caption, LONG_COLUMNS, numbered=True)

    def shorts(self, found: Iterable[str]) -> tuple[str, ...]:
        """Return the columns of ``found`` that may hold a short or only caption."""
        return _among(found, self.caption, SHORT_COLUMNS, numbered=True)

    def captions_of(self, fields: Mapping[str, Any], choice: CaptionChoice) -> RowCaptions:
        """Return the captions of one row.

        Raises:
            UnreadableError: A caption is neither a text nor missing.
        """
        fields = self.opened(fields)
        names = tuple(fields)
        found = RowCaptions.of(_texts(fields, self.longs(names)), _texts(fields, self.shorts(names)), choice)
        if names and not self.longs(names) and not self.shorts(names):
            return RowCaptions(found=f"no caption in {shown(names)}; {HOW_TO_NAME}")
        return found

    def record_of(
        self, fields: Mapping[str, Any], *, row: int, where: str, folder: str, choice: CaptionChoice, raw: bytes
    ) -> Record:
        """Return the record of one row whose picture lies in a file of its own, or somewhere on the web.

        Args:
            fields: The row's cells by column.
            row: Number of the row.
            where: Name, for messages, of a row that names no picture.
            folder: URI of the table's folder.
            choice: Choice between the long and the short caption.
        """
        fields = self.opened(fields)
        names = tuple(fields)
        name = where
        place: str | bytes = ""
        try:
            image = _first_text(fields, self.pictures(names))
            url = _first_text(fields, self.urls(names))
            if is_address(image):
                image, url = "", url or image
            name = (image or url or where)[:_MAX_NAME]
            if not image and not url:
                raise UnreadableError("bad_row", f"names no picture and no url; found {shown(names)}; {HOW_TO_NAME}")
            place = picture_in_text(image) or place_of(folder, image) if image else url
            captions = self.captions_of(fields, choice)
        except UnreadableError as error:
            return Record(row=row, name=name, image=place, problem=error, raw=raw)
        return Record(row=row, name=name, image=place, url=url or None, **captions.fields)


def place_of(folder: str, name: str) -> str:
    """Return the URI of a picture that a table in ``folder`` names; ``FencedSlice`` decides whether it may be read.

    Names are relative to the folder, absolute paths, or URIs; of a name with backslashes these separate folders, unless
    a file has the name as it is.
    """
    if "\\" in name and "://" not in name:
        try:
            there = storage.exists(storage.join(folder, name))
        except storage.StorageError:  # no file can have this name
            there = True
        name = name if there else name.replace("\\", "/")
    if name[:7].lower() == "file://":
        return str(storage.local_path(name))
    if "://" in name or name.startswith("/"):
        return name
    if storage.is_inside_archive(folder):
        return storage.inside_join(folder, name)
    if storage.local_path(folder) is None and ".." in name.split("/"):  # a bucket knows no folder above
        bucket, key = folder[: len("s3://")], folder[len("s3://") :]
        return bucket + posixpath.normpath(posixpath.join(key, name))
    return storage.join(folder, name.removeprefix("./"))


def _within(value: Any, path: Sequence[str]) -> Any:
    """Return what a path leads to in objects, in lists of them, and in texts of JSON; None where it leads nowhere."""
    if not path or len(path) > _MAX_DEPTH:
        return None if path else value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list):
        parts = [_within(part, path) for part in value]
        several = [part if isinstance(part, list) else [part] for part in parts if part is not None]
        return [part for those in several for part in those] or None
    return _within(value.get(path[0]), path[1:]) if isinstance(value, Mapping) else None


def is_address(text: str) -> bool:
    """Return whether a text begins as an address on the web."""
    return text.strip().lower().startswith(("http://", "https://"))


def _among(
    found: Iterable[str], chosen: str | None, guesses: tuple[str, ...], numbered: bool = False
) -> tuple[str, ...]:
    if chosen is not None:
        names = set(found)
        return tuple(name for name in (chosen, chosen.partition(".")[0]) if name in names)[:1]
    return _guessed(tuple(found), guesses, numbered)


@lru_cache(maxsize=16)  # rows of a table have the same columns; there may be very many
def _guessed(names: tuple[str, ...], guesses: tuple[str, ...], numbered: bool) -> tuple[str, ...]:
    spelled: dict[str, list[str]] = {}
    for name in names:
        for spelling in _spellings(name, numbered):
            spelled.setdefault(spelling, []).append(name)
    return tuple(dict.fromkeys(name for guess in guesses for name in spelled.get(guess, ())))


@lru_cache(maxsize=4096)
def _spellings(name: str, numbered: bool) -> frozenset[str]:
    """Return what a name of a column may stand for: in small letters, with bars between words, without a number."""
    words = _NO_WORD.sub("_", _NEW_WORD.sub("_", name)).strip("_").lower()
    return frozenset({name.lower(), words, _without_number(words) if numbered else words})


def _without_number(name: str) -> str:
    return _NUMBER.sub("", name)


def _first_text(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first text that is not empty, also in a list of one; an empty one if there is none."""
    for name in names:
        value = fields[name]
        if told := several_pictures(value):
            raise UnreadableError("bad_row", told)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, Mapping):
            value = next((value[part] for part in PLACE_FIELDS if isinstance(value.get(part), str)), value)
        if type(value) is int and not _spellings(name, False) & {*SURE_COLUMNS}:  # ids name pictures without ending
            value = str(value)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise UnreadableError("bad_row", f"expected a text as {name}, found {type(value).__name__}")
        return value
    return ""


def _texts(fields: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return the texts that are not blank of the first column that has one.

    A column that only repeats the name of a file, as titles do, counts where no other has a text.
    """
    told = [name for name in names if not _is_file_name(fields[name])]
    for name in told or names:
        several = _parts(fields[name], is_tags=not _spellings(name, False).isdisjoint(TAG_COLUMNS))
        texts = [text for part in several if isinstance(text := _text_in(part), str)]
        if any(isinstance(part, Mapping) and not {"from", "role"}.isdisjoint(part) for part in several):
            texts = [text for text in texts if text.strip()][:1]  # later answers are to questions about details
        if not texts and any(part is not None for part in several):
            raise UnreadableError("bad_row", f"expected a text, texts or null as {name}, found {_kind(fields[name])}")
        if found := [text for text in texts if text.strip()]:
            same = _without_number(name)  # caption_0, caption_1 are captions of one picture
            others = (
                part
                for each in told or names
                if each != name and _without_number(each) == same
                for part in _parts(fields[each])
            )
            return [*found, *(text for part in others if isinstance(text := _text_in(part), str) and text.strip())]
    return []


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and _FILE_NAME.fullmatch(value.strip()) is not None


def several_pictures(value: Any) -> str:
    """Return what is wrong with a cell of several pictures; empty for any other."""
    if not isinstance(value, list) or len(value) < 2:
        return ""
    return f"{len(value)} pictures in one row: nobody can tell which one the caption describes; write a row for each"


def _kind(value: Any) -> str:
    """Return what a cell is that is no caption, in words."""
    part = next((each for each in value if isinstance(each, Mapping)), value) if isinstance(value, list) else value
    if not isinstance(part, Mapping) or not part:
        return type(value).__name__
    names = ", ".join(str(name)[:60] for name in list(part)[:8])
    return f"an object of {names}; name the one that is meant, as in {str(next(iter(part)))[:60]!r} behind a dot"


def _parts(value: Any, is_tags: bool = False) -> Sequence[Any]:
    """Return the captions of a cell, also of a list as text; a number that is none is nothing, as pandas writes it."""
    parts = _in_text(value) if isinstance(value, str) else value if isinstance(value, list | tuple) else (value,)
    if is_tags and len(parts) > 1 and all(isinstance(part, str) for part in parts):
        parts = (", ".join(parts),)
    return [None if part != part else part for part in parts]


def _in_text(text: str) -> Sequence[Any]:
    """Return the captions of a list that a table of text holds, as JSON or as Python and NumPy write it; else the text.

    Example:
        >>> _in_text('["a", "b"]'), _in_text("['a' 'b']"), _in_text("[a]")
        (['a', 'b'], ['a', 'b'], ('[a]',))
    """
    plain = text.strip()
    if plain[:1] + plain[-1:] not in ("[]", "{}"):
        return (text,)
    try:
        found = json.loads(plain)
    except (ValueError, RecursionError):
        return _literals(plain) or (text,)
    parts = found if isinstance(found, list) else [found]
    return parts if all(isinstance(_text_in(part), str) for part in parts) else (text,)


def _literals(text: str) -> list[str]:
    """Return the texts of a list in Python's notation, with or without commas; none for anything else."""
    found: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about odd escapes
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.STRING and token.string[0] in "\"'":
                    found.append(ast.literal_eval(token.string))
                elif token.string not in ("[", ",", "]") and token.string.strip():
                    return []
    except (tokenize.TokenError, SyntaxError, ValueError):
        return []
    return found


def _text_in(part: Any) -> Any:
    """Return the text of a caption that is an object: ``raw`` of COCO's sentences, ``value`` of an answer."""
    if not isinstance(part, Mapping):
        return part
    if str(part.get("from", part.get("role", ""))).lower() in _ASKING:
        return ""
    fields = {name.lower(): _joined(value) for name, value in part.items()}
    return next((fields[name] for name in TEXT_FIELDS if isinstance(fields.get(name), str)), part)


def _joined(value: Any) -> Any:
    """Return the text of a list of parts of a message, as a chat holds pictures and texts."""
    if not isinstance(value, list) or not all(isinstance(part, Mapping) and "type" in part for part in value):
        return value
    texts = [part["text"] for part in value if isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else value


def shown(names: Iterable[str]) -> str:
    """Return names of columns for people, not too many of them."""
    found = [str(name)[:60] for name in names]
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    return f"the columns {', '.join(found[:20])}{more}" if found else "no columns"
