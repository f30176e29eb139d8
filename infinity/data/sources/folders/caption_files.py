"""Captions in files beside pictures: ``cat.txt`` for ``cat.png``, as tools for finetuning lay them out.

A picture takes what a table says of it; where that says nothing, the files of its own name: ``.txt``, ``.text`` and
``.caption`` hold a caption, ``.json`` the columns of a row. Rarer endings, such as ``.tags``, count where those say
nothing. What they say is put together as in a shard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from infinity import storage
from infinity.data.images.decoding import UnreadableError
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.encodings import decoded, not_utf8
from infinity.data.sources.fence import Slice
from infinity.data.sources.folders.file_names import folded, is_picture
from infinity.data.sources.folders.label_files import labels_in_object, labels_in_text
from infinity.data.sources.samples import CaptionChoice, Record

TEXT_ENDINGS = ("txt", "text", "caption")
RARE_ENDINGS = ("cap", "captions", "prompt", "tags")
"""Endings of texts that are captions of pictures without any other."""

ENDINGS = (*TEXT_ENDINGS, "json", *RARE_ENDINGS)
MAX_TEXT_BYTES = 2**20

FOLDERS = frozenset(("captions", "caption", "texts", "text", "txt", "prompts", "descriptions"))
FOLDERS |= {"annotations", "annotation", "metadata", "json", "jsons"}
"""Words in the names of folders of caption files (``celeba-caption``), beside the folder of the pictures or in it."""

ALONE = ("caption", "text", "prompt", "description")
"""Names of the caption file of a folder with one picture; names of caption files may also end in one of these."""

_OF_TAKEOUT = "suppl[a-z-]*"  # photo.jpg.supplemental-metadata.json, whose end is cut off where names are long
_SUFFIX = re.compile(rf"(.*[^/])[-_.](?:{'|'.join(ALONE)}|{_OF_TAKEOUT})", re.IGNORECASE)
_NO_LETTERS = re.compile(r"[\W\d_]+")


def fields_of(parts: Iterable[tuple[str, bytes]], columns: SourceColumns) -> dict[str, Any]:
    """Return the columns of a row whose captions lie in files of their own; boxes and outlines are passed over.

    Args:
        parts: Name and content of each file; a name ends with one of ``ENDINGS``.

    Raises:
        UnreadableError: A file is not what its ending says, or there are boxes or outlines and no caption.
    """
    fields: dict[str, Any] = {}
    texts: list[str] = []
    rare: list[str] = []
    labels = ""
    for name, data in parts:
        if ending_of(name) == "json":
            found = _object(name, data, columns.caption or "text")
            fields.update(found)
            kind = labels_in_object(found)
        elif kind := labels_in_text(text := text_of(name, data)):
            pass
        else:
            (rare if ending_of(name) in RARE_ENDINGS else texts).append(text)
        labels = labels or (f"{name}: labels ({kind}), no caption" if kind else "")
    texts = [text for text in texts if text.strip()]
    if not texts and not columns.longs(fields) and not columns.shorts(fields):
        texts = rare
        if labels and not any(map(str.strip, texts)):
            raise UnreadableError("labels", labels)
    if texts:  # a caption of its own counts more than what the JSON repeats
        fields = {name: value for name, value in fields.items() if name not in columns.shorts(fields)}
        fields[columns.caption or "text"] = texts[::-1]  # the last one counts most
    return fields


def text_of(name: str, data: bytes) -> str:
    """Return a text in UTF-8, UTF-16 or UTF-32.

    Raises:
        UnreadableError: The bytes are no such text.
    """
    try:
        return decoded(data)
    except UnicodeDecodeError as error:
        raise UnreadableError("bad_row", f"{name}: {not_utf8(error)}") from error


def ending_of(name: str) -> str:
    """Return what follows the last dot, in small letters."""
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def stem_of(uri: str) -> str:
    """Return a URI without what follows the last dot of its name."""
    return uri[: uri.rindex(".")] if "." in storage.name(uri) else uri


class CaptionFiles:
    """Which of a folder's files hold captions of which pictures.

    Names that differ in capitals or in how accents are written belong together where nothing else has one of them; so
    do names in folders side by side, one of which has a name of ``FOLDERS``; ``cat_caption.txt`` and ``cat.png``; and
    the one picture of a folder with its ``caption.txt``.

    Args:
        files: URIs of all files of the folder.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        pictures: set[str] = set()
        self._names: set[str] = set()
        for uri in files:
            if is_picture(uri):
                pictures.add(uri)
                self._names |= {uri, stem_of(uri)}
            elif ending_of(uri) in ENDINGS and not storage.name(uri).startswith("."):
                self._by_stem.setdefault(uri[: uri.rindex(".")], []).append(uri)
        self._other = self._further(pictures)
        self._used = set(self._other.values())

    def of(self, picture: str) -> tuple[str, ...]:
        """Return the caption files of a picture, the one that counts most last.

        Files of its name without its ending count more than those of its whole name.
        """
        stem = stem_of(picture)
        whole = self._by_stem.get(picture, []) if stem != picture else []
        own = self._by_stem.get(stem, [])
        if not whole and not own and picture in self._other:
            own = self._by_stem[self._other[picture]]
        return (*sorted(whole, key=_order), *sorted(own, key=_order))

    def is_of_picture(self, file: str) -> bool:
        """Return whether a file holds a caption of a picture of the folder."""
        stem = stem_of(file)
        return ending_of(file) in ENDINGS and (stem in self._names or stem in self._used)

    def _further(self, pictures: set[str]) -> dict[str, str]:
        """Return names of caption files, without their ending, by the picture whose name is nearly the same."""
        stems = [stem for stem in self._by_stem if stem not in self._names]
        alone = [picture for picture in pictures if not {picture, stem_of(picture)} & self._by_stem.keys()]
        if not stems or not alone:
            return {}
        found: dict[str, str] = {}
        rules: tuple[Callable[[str, bool], Iterable[str]], ...] = (_spellings, _places, _suffixes, _folders)
        for names_of in rules:
            texts: dict[str, list[str]] = {}
            for stem in stems:
                for key in names_of(stem, True):
                    texts.setdefault(key, []).append(stem)
            owners: dict[str, list[str]] = {}
            for picture in alone if texts else ():
                for key in {*names_of(picture, False), *names_of(stem_of(picture), False)} & texts.keys():
                    owners.setdefault(key, []).append(picture)
            for key, those in owners.items():
                if len(those) == len(texts[key]) == 1:
                    found.setdefault(those[0], texts[key][0])
        return found


def _spellings(name: str, is_text: bool) -> tuple[str, ...]:
    return (folded(name),)


def _places(name: str, is_text: bool) -> Iterator[str]:
    """Yield a name without one of its folders: of a text, one for captions; of a picture, any or none."""
    parts = name.split("/")
    for at, part in enumerate(parts[:-1]):
        if not is_text or not FOLDERS.isdisjoint(_NO_LETTERS.split(part.lower())):
            yield f"{at} " + "/".join(parts[:at] + parts[at + 1 :])
    if not is_text:
        yield from (f"{at} {name}" for at in range(len(parts)))


def _suffixes(name: str, is_text: bool) -> Iterator[str]:
    """Yield the name of a picture, and of a text the name without ``_caption``."""
    if not is_text:
        yield name
    elif match := _SUFFIX.fullmatch(name):
        yield match[1]


def _folders(name: str, is_text: bool) -> Iterator[str]:
    """Yield the folder of a picture, and of a text that is named as the caption of what lies beside it."""
    folder, _, last = name.rpartition("/")
    if not is_text or last.lower() in ALONE:
        yield folder


def _order(uri: str) -> tuple[int, str]:
    return -ENDINGS.index(ending_of(uri)), uri  # the first ending counts most, and so comes last


@dataclass(frozen=True, slots=True)
class Captioned:
    """A slice whose records without a caption take the one that lies in files beside their picture.

    Attributes:
        files: URIs of the caption files by the picture's URI.
        captions: Choice of caption where there is a long and a short one.
    """

    piece: Slice
    files: Mapping[str, tuple[str, ...]]
    captions: CaptionChoice
    columns: SourceColumns = field(default_factory=SourceColumns)

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        return self.piece.first_row

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records, or those of ``wanted`` rows."""
        for record in self.piece.read(wanted):
            yield self._filled(record)

    def _filled(self, record: Record) -> Record:
        files = self.files.get(record.image) if isinstance(record.image, str) else None
        if not files or record.problem is not None or (record.caption or "").strip():
            return record
        try:
            fields = fields_of(((storage.name(uri), _content(uri)) for uri in files), self.columns)
            found = self.columns.captions_of(fields, self.captions)
        except UnreadableError as error:
            return replace(record, problem=error)
        urls = (fields[name] for name in self.columns.urls(fields))
        return replace(
            record,
            url=record.url or next((url for url in urls if isinstance(url, str) and url), None),
            **found.fields,
        )


def _content(uri: str) -> bytes:
    try:
        data = storage.read_bytes(uri, start=0, length=MAX_TEXT_BYTES + 1)
    except storage.FileMissingError as error:
        raise UnreadableError("missing_file", f"{storage.name(uri)}: there is no such file") from error
    except storage.StorageError as error:
        if storage.local_path(uri) is None and not isinstance(error, storage.EntryError):
            raise
        raise UnreadableError("not_accessible", str(error)) from error
    if len(data) > MAX_TEXT_BYTES:
        raise UnreadableError("row_too_large", f"{storage.name(uri)}: more than {MAX_TEXT_BYTES:,} bytes")
    return data


def _object(name: str, data: bytes, caption: str) -> dict[str, Any]:
    try:
        found = json.loads(text_of(name, data))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError("bad_row", f"{name}: not JSON: {error}") from error
    if isinstance(found, str) or (isinstance(found, list) and all(isinstance(part, str) for part in found)):
        return {caption: found}
    if isinstance(found, list) and all(isinstance(part, dict) for part in found):
        return {"objects" if labels_in_object({"objects": found}) else caption: found}
    if not isinstance(found, dict):
        raise UnreadableError("bad_row", f"{name}: expected an object or captions, found {type(found).__name__}")
    return found
