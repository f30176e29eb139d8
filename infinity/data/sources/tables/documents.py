"""JSON documents of captioned pictures: arrays, COCO captions, Karpathy's splits, and captions by the picture's name.

Each form is one small class that turns a parsed document into rows, or says that the document is another one. A row
has columns, as in every other table: ``columns.py`` finds picture and captions in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.folders.file_names import PICTURE_ENDINGS
from infinity.data.sources.samples import SourceError
from infinity.data.sources.tables.held_rows import document

_LOOKED_AT = 16
_NEXT_OBJECT = re.compile(r"[\s,]*")
_OF_ANYTHING = ("title", "description", "comment", "content", "text")

Rows = list[Any]
"""Columns of each row, or a text that says why a row has none."""


class DocumentForm(Protocol):
    """One way to write captioned pictures as a JSON document."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return the rows of a document, or None if it has another form."""
        ...


class Coco:
    """COCO captions: ``images`` with ``id`` and ``file_name``, ``annotations`` with ``image_id`` and ``caption``."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per image with all its captions, and one per annotation whose image is absent."""
        images, notes = _lists(content, "images", "annotations")
        if images is None or notes is None or not any("caption" in note for note in notes if isinstance(note, dict)):
            return None
        captions: dict[Any, list[Any]] = {}
        rows: Rows = []
        known = {_key(image.get("id")) for image in images if isinstance(image, dict)}
        lost: Rows = []
        for note in notes:
            key = _key(note.get("image_id")) if isinstance(note, dict) else None
            if key is None or key not in known:
                lost.append("an annotation of an image that the document does not list")
            else:
                captions.setdefault(key, []).append(note.get("caption"))
        for image in images:
            if not isinstance(image, dict):
                rows.append(image)
                continue
            address = image.get("coco_url") or image.get("flickr_url")
            named = {"file_name": image.get("file_name"), "url": address}
            rows.append({**named, "captions": captions.get(_key(image.get("id")))})
        return [*rows, *lost]


class Karpathy:
    """Karpathy's splits of COCO and Flickr: ``images`` with ``filename`` and ``sentences`` of ``raw``."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per image."""
        (images,) = _lists(content, "images")
        if images is None or not any("sentences" in image for image in images if isinstance(image, dict)):
            return None
        return [_with_folder(image) if isinstance(image, dict) else image for image in images]


class Array:
    """An array of objects with a picture and captions; also under one key of an object, and a hub's viewer's rows."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per element."""
        inside = content.values() if isinstance(content, Mapping) else (content,)
        arrays = [_unpacked(value) for value in inside if isinstance(value, list)]
        found = [rows for rows in arrays if _is_captioned(_first_captioned(rows, columns), columns)]
        if len(arrays) > 1:  # of images, licenses and boxes only what has captions
            found = [rows for rows in found if _has_caption_column(_first_captioned(rows, columns), columns)]
        return [row for rows in found for row in rows] if found else None


class Pairs:
    """An array of arrays, each with the name of a picture and its captions."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per inner array."""
        if not isinstance(content, list) or not content or not all(map(_is_pair, content[:_LOOKED_AT])):
            return None
        name, caption = columns.picture or "file_name", columns.caption or "text"
        return [{name: pair[0], caption: pair[1:]} if _is_pair(pair) else pair for pair in content]


class Columns:
    """An object of columns, as data frames write it: lists, or objects with a number for each row."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per element of the columns."""
        if not isinstance(content, Mapping):
            return None
        cells = {name: value for name, value in content.items() if isinstance(value, list | Mapping) and value}
        first = next(iter(cells.values()), None)
        places = range(len(first)) if isinstance(first, list) else list(first or ())
        same = {
            name: value for name, value in cells.items() if type(value) is type(first) and len(value) == len(places)
        }
        if not isinstance(first, list) and any(set(value) != set(places) for value in same.values()):
            return None
        names = (*columns.pictures(same), *columns.urls(same))
        if not _has_caption_column(same, columns) or not any(isinstance(same[name][places[0]], str) for name in names):
            return None
        return [{name: value[place] for name, value in same.items()} for place in places]


class Diffusion:
    """DiffusionDB: an object by the picture's name, each with a prompt ``p`` and a seed ``se``."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per key, with its prompt."""
        values = list(content.values()) if isinstance(content, Mapping) else []
        if not values or not all(isinstance(each, Mapping) and {"p", "se"} <= each.keys() for each in values):
            return None
        return [{"file_name": name, "text": each["p"]} for name, each in content.items()]


class ByName:
    """An object whose keys name pictures and whose values are a caption, a list of them, or an object with one.

    Keys of objects with captions may lack the picture's ending, or be any numbers where the objects name pictures.
    """

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per key, which names its picture."""
        if not isinstance(content, Mapping) or not content:
            return None
        named = sum(_names_picture(key) or _has_caption(value, columns) for key, value in content.items())
        if 2 * named < len(content):
            return None
        name, caption = columns.picture or "file_name", columns.caption or "text"
        return [
            _keyed(key, value, name, columns) if isinstance(value, Mapping) else {name: key, caption: value}
            for key, value in content.items()
        ]


FORMS: tuple[DocumentForm, ...] = (Coco(), Karpathy(), Pairs(), Array(), Columns(), Diffusion(), ByName())
"""All forms, in the order in which they are asked; docs/sources.md lists them for people."""


def document_rows(uri: str, columns: SourceColumns) -> Rows | None:
    """Return the rows of a JSON document, or None if it is no document of captioned pictures.

    Raises:
        SourceError: The document is too large or no JSON.
        StorageError: The document cannot be read.
    """
    text = document(uri)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        content = _one_after_the_other(text)
        if content is None:
            raise SourceError(f"{uri}: expected JSON ({error})") from error
    if _is_row(content, columns):
        return [content]
    return next((rows for form in FORMS if (rows := form.rows(content, columns)) is not None), None)


def _is_row(content: Any, columns: SourceColumns) -> bool:
    """Return whether a document is a single row, and no object of columns."""
    names = columns.pictures(content) if isinstance(content, dict) else ()
    return _is_captioned(content, columns) and any(isinstance(content[name], str) for name in names)


def _one_after_the_other(text: str) -> list[Any] | None:
    """Return the objects of a document that holds several, over any number of lines each; None if it does not."""
    decoder, found, at = json.JSONDecoder(), list[Any](), 0
    try:
        while (match := _NEXT_OBJECT.match(text, at)) and match.end() < len(text):
            value, at = decoder.raw_decode(text, match.end())
            found.append(value)
    except (ValueError, RecursionError):
        return None
    return found if len(found) > 1 and all(isinstance(value, dict) for value in found) else None


def _unpacked(rows: list[Any]) -> list[Any]:
    return [row["row"] if isinstance(row, dict) and isinstance(row.get("row"), dict) else row for row in rows]


def _first_captioned(rows: list[Any], columns: SourceColumns) -> Any:
    """Return the first row that names a picture, since chats mix in rows without one."""
    return next((row for row in rows if _is_captioned(row, columns)), None)


def _names_picture(text: Any) -> bool:
    return isinstance(text, str) and text.lower().endswith(PICTURE_ENDINGS)


def _is_pair(part: Any) -> bool:
    is_texts = isinstance(part, list) and len(part) > 1 and all(isinstance(text, str) for text in part)
    return is_texts and _names_picture(part[0])


def _has_caption_column(row: Mapping[str, Any], columns: SourceColumns) -> bool:
    return bool(columns.shorts(row) or columns.longs(row))


def _has_caption(value: Any, columns: SourceColumns) -> bool:
    """Return whether an object below a key describes a picture; a title or a description may be of anything."""
    names = (*columns.shorts(value), *columns.longs(value)) if isinstance(value, Mapping) else ()
    return any(name not in _OF_ANYTHING for name in names)


def _keyed(key: str, value: Mapping[str, Any], name: str, columns: SourceColumns) -> dict[str, Any]:
    """Return the row of an object below a key: the key names the picture unless the object does."""
    has_own = not _names_picture(key) and any(_names_picture(value[each]) for each in columns.pictures(value))
    return dict(value) if has_own else {**value, name: key}


def _is_captioned(row: Any, columns: SourceColumns) -> bool:
    """Return whether a row names a picture: ``filename`` alone may be any file."""
    if not isinstance(row, dict):
        return False
    places = [row[name] for name in (*columns.pictures(row), *columns.urls(row))]
    if not places or _has_caption_column(row, columns):
        return bool(places)
    return any(map(_names_picture, places))


def _lists(content: Any, *names: str) -> list[list[Any] | None]:
    fields = content if isinstance(content, Mapping) else {}
    return [value if isinstance(value := fields.get(name), list) else None for name in names]


def _key(value: Any) -> Any:
    """Return an id that can be looked up: the same number as a text is the same id."""
    return None if value is None or isinstance(value, list | dict) else str(value)


def _with_folder(image: dict[str, Any]) -> dict[str, Any]:
    folder, name = image.get("filepath"), image.get("filename")
    both = isinstance(folder, str) and isinstance(name, str)
    plain = {key: value for key, value in image.items() if key not in ("filepath", "sentids")}
    return {**plain, "file_name": f"{folder}/{name}"} if both else plain
