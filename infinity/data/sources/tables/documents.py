"""JSON documents of captioned pictures: arrays, COCO captions, Karpathy's splits, and captions by the picture's name.

Each form is one small class that turns a parsed document into rows, or says that the document is another one. A row
has columns, as in every other table: ``columns.py`` finds picture and captions in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.file_names import PICTURE_ENDINGS
from infinity.data.sources.samples import SourceError
from infinity.data.sources.tables.held_rows import document

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
        if isinstance(content, Mapping):
            inside = [value for value in content.values() if isinstance(value, list)]
            content = inside[0] if len(inside) == 1 else None
        if not isinstance(content, list):
            return None
        rows = [
            part["row"] if isinstance(part, dict) and isinstance(part.get("row"), dict) else part for part in content
        ]
        return rows if _is_captioned(next((row for row in rows if isinstance(row, dict)), {}), columns) else None


class ByName:
    """An object whose keys name pictures and whose values are a caption, a list of them, or an object with one."""

    def rows(self, content: Any, columns: SourceColumns) -> Rows | None:
        """Return a row per key, which names its picture."""
        if not isinstance(content, Mapping) or not content:
            return None
        named = sum(str(key).lower().endswith(PICTURE_ENDINGS) for key in content)
        if 2 * named < len(content):
            return None
        name, caption = columns.picture or "file_name", columns.caption or "text"
        return [
            {**value, name: key} if isinstance(value, Mapping) else {name: key, caption: value}
            for key, value in content.items()
        ]


FORMS: tuple[DocumentForm, ...] = (Coco(), Karpathy(), Array(), ByName())
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
        raise SourceError(f"{uri}: expected JSON ({error})") from error
    return next((rows for form in FORMS if (rows := form.rows(content, columns)) is not None), None)


def _is_captioned(row: dict[str, Any], columns: SourceColumns) -> bool:
    """Return whether a row names a picture: ``filename`` alone may be any file."""
    places = [row[name] for name in (*columns.pictures(row), *columns.urls(row))]
    if not places or columns.shorts(row) or columns.longs(row):
        return bool(places)
    return any(isinstance(place, str) and place.lower().endswith(PICTURE_ENDINGS) for place in places)


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
