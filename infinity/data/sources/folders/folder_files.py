"""Files of a folder, sorted by what they are; what is no part of a source is counted, by its kind.

Every file is in exactly one group: a table, a shard, Parquet or Arrow, a list of addresses, a picture, a caption file
beside a picture, or a file that is not read. So nothing is left out in silence.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from infinity import storage
from infinity.data.sources.columnar.arrow import ENDINGS as ARROW_ENDINGS
from infinity.data.sources.columns import HOW_TO_NAME, SourceColumns, shown
from infinity.data.sources.encodings import decoded
from infinity.data.sources.folders.archives import below
from infinity.data.sources.folders.caption_files import CaptionFiles, ending_of
from infinity.data.sources.folders.file_names import is_picture
from infinity.data.sources.folders.label_files import LABELS, labels_in_text
from infinity.data.sources.samples import SourceError
from infinity.data.sources.tables.caption_lists import list_form
from infinity.data.sources.tables.packed import ENDINGS as PACKED_TABLES
from infinity.data.sources.tables.packed import is_packed_table, unpacked
from infinity.data.sources.webdataset import SHARD_ENDINGS

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
LINES = (".jsonl", ".ndjson", ".jsonlines")
SEPARATED = (".csv", ".tsv", ".tab")
LISTS = (".txt", ".token")
TABLES = (*LINES, *SEPARATED, ".json", *LISTS, *PACKED_TABLES)
"""Endings of tables of text, packed ones too."""

COLUMNAR = (".parquet", *ARROW_ENDINGS)
FILES = (*TABLES, *COLUMNAR, *SHARD_ENDINGS)
"""Endings of files that are sources themselves."""

_CHUNK_BYTES = 2**24
_HEAD_BYTES = 2**12
_LINES_LOOKED_AT = 16
_MAX_LISTS = 64
"""Texts without a picture that are looked into, since one of them may be a list of captions."""

PACKED = (".zip", ".rar", ".7z", ".gz", ".bz2", ".xz", ".zst")
_PACKED_PART = re.compile(r"\.(?:z\d\d|r\d\d|(?:zip|7z|tar|tgz|tar\.\w+)\.(?:part)?[-_]?(?:\d{2,3}|[a-z]{2}))$")
_REWRITE = "write its pictures and captions as webdataset shards or Parquet first"
_ADVICE = {
    (".tfrecord", ".tfrecords", ".mdb", ".lmdb", ".h5", ".hdf5", ".npz", ".npy", ".beton", ".rec", ".mat"): _REWRITE,
    (".pkl", ".pickle", ".pt", ".pth", ".bin"): f"never opened, since it may hold a program; {_REWRITE}",
    (".xlsx", ".xls", ".ods", ".db", ".sqlite", ".sqlite3"): "save its table as CSV in UTF-8 first",
    (".mp4", ".mov", ".mkv", ".webm", ".avi"): "a film; save its pictures first",
    (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".psd", ".svg", ".exr", ".ico", ".tga", ".ppm", ".dds"):
        "a picture of a form that is not read; save it as PNG or JPEG",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class NotRead:
    """Files of a folder, or rows of a file, that are no rows of the source.

    Attributes:
        why: Reason in words.
        example: Name of one; may be empty.
    """

    why: str
    number: int
    example: str = ""

    def __str__(self) -> str:
        return f"{self.number:,} {self.why}" + (f", for example {self.example}" if self.example else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderFiles:
    """The files of a folder by what they are; the order in each group is that of the files.

    Attributes:
        tables: ``metadata`` tables, JSON lines and documents that name pictures.
        shards: Tar files.
        columnar: Parquet and Arrow files with pictures, and those that cannot be read.
        lists: Other tables that name pictures, one or several lines per picture.
        not_read: Files that are no part of the source, with the reason of each.
    """

    tables: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    columnar: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    not_read: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        files: tuple[str, ...],
        columns: SourceColumns,
        kind: Callable[[str], str],
        captions: CaptionFiles,
        pictures: Set[str] = frozenset(),
    ) -> FolderFiles:
        """Sort the files of a folder.

        Args:
            files: URIs of all files.
            kind: Function that tells the kind of a file that is a source itself, see ``Opening.kind``.
            captions: Caption files of the folder's pictures.
            pictures: Names of the pictures, with and without their endings.
        """
        sorted_files = cls()
        sorting = _Sorting(files, columns, kind, captions, sorted_files, pictures)
        for file in files:
            try:
                sorting.add(file)
            except storage.EntryError:
                sorted_files.not_read.append((file, "files of an archive that cannot be read"))
        return sorted_files

    def unread(self, folder: str) -> tuple[NotRead, ...]:
        """Return counts of what is not read, by reason; names are relative to the folder."""
        numbers = Counter(why for _, why in self.not_read)
        examples: dict[str, str] = {}
        for file, why in self.not_read:
            examples.setdefault(why, below(folder, file))
        return tuple(NotRead(why=why, number=number, example=examples[why]) for why, number in numbers.items())

    def what_is_missing(self, files: tuple[str, ...]) -> str:
        """Return why a folder of these files is no source."""
        if self.pictures:
            return (
                f"no captions at all: found {len(self.pictures)} pictures but no {' or '.join(METADATA_NAMES)}, "
                "and no .txt, .caption or .json of their names"
            )
        tables = [file for file in files if file.lower().endswith(LINES)]
        if tables and (fields := first_fields(tables[0])):
            return f"{storage.name(tables[0])} names no picture: found {shown(fields)}; {HOW_TO_NAME}"
        return (
            f"found {len(files)} files, but no pictures and no table of pictures, for example {storage.name(files[0])}"
        )


class _Sorting:
    def __init__(
        self,
        files: tuple[str, ...],
        columns: SourceColumns,
        kind: Callable[[str], str],
        captions: CaptionFiles,
        into: FolderFiles,
        pictures: Set[str] = frozenset(),
    ) -> None:
        self._pictures = pictures
        self._columns, self._kind, self._into = columns, kind, into
        self._metadata = frozenset(_metadata(files))
        self._beside = _beside(files)
        self._captions = captions
        self._lists = 0
        into.tables.extend(_metadata(files))

    def add(self, file: str) -> None:
        """Put a file into its group."""
        name, into = file.lower(), self._into
        if file in self._metadata:
            return
        if is_picture(file):
            into.pictures.append(file)
        elif is_shard(file):
            into.shards.append(file)
        elif self._captions.is_of_picture(file):
            return
        elif self._metadata and storage.name(file) in METADATA_NAMES:
            into.not_read.append((file, "metadata.csv beside a metadata.jsonl, which counts"))
        elif name.endswith(COLUMNAR):
            self._source(file, into.columnar)
        elif name.endswith(LINES):
            self._lines(file)
        elif name.endswith(SEPARATED):
            self._source(file, into.lists)
        elif name.endswith(".json"):
            self._document(file)
        elif name.endswith(LISTS):
            self._list(file)
        elif is_packed_table(file):
            self._packed(file)
        else:
            into.not_read.append((file, _why_not(file)))

    def _source(self, file: str, group: list[str]) -> None:
        if self._kind(file) != "URL list":
            group.append(file)
        elif file.rpartition(".")[0] in self._beside:
            self._into.not_read.append((file, "tables that a downloader left beside pictures of the same rows"))
        else:
            self._into.addresses.append(file)

    def _lines(self, file: str) -> None:
        if is_document(file):
            self._document(file)
            return
        fields = first_fields(file)
        if self._columns.pictures(fields) or self._columns.urls(fields):
            self._source(file, self._into.tables)
        else:
            self._into.not_read.append((file, "files of JSON lines that name no picture"))

    def _document(self, file: str) -> None:
        kind = self._kind(file)
        if kind == "other":
            self._into.not_read.append((file, "JSON files that are no captions of pictures"))
        else:
            self._source(file, self._into.tables)

    def _packed(self, file: str) -> None:
        """Put a packed table where the same table would be if it were not packed."""
        into = self._into
        try:
            with unpacked(file) as path:
                inside = FolderFiles()
                _Sorting((), self._columns, self._kind, self._captions, inside).add(path)
        except SourceError:
            into.lists.append(file)  # whoever reads it says what is wrong
            return
        for group in ("tables", "lists", "addresses"):
            getattr(into, group).extend([file] * len(getattr(inside, group)))
        into.not_read.extend((file, why) for _, why in inside.not_read)

    def _list(self, file: str) -> None:
        self._lists += 1
        if self._lists <= _MAX_LISTS and _holds_labels(file):
            self._into.not_read.append((file, LABELS))
        elif self._lists <= _MAX_LISTS and list_form(file, self._columns, self._pictures) is not None:
            self._source(file, self._into.lists)
        else:
            self._into.not_read.append((file, "texts without a picture of their name"))


def _metadata(files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tables of an image folder; where a folder has both, the JSON lines."""
    both = {name: {storage.parent(file) for file in files if storage.name(file) == name} for name in METADATA_NAMES}
    csv_folders = both["metadata.csv"] - both["metadata.jsonl"]
    return tuple(
        file
        for file in files
        if storage.name(file) == "metadata.jsonl"
        or (storage.name(file) == "metadata.csv" and storage.parent(file) in csv_folders)
    )


def _beside(files: tuple[str, ...]) -> set[str]:
    """Return paths without ending that a downloader gives to its tables: those of its shards, and of its folders."""
    shards = {file[: len(file) - len(ending)] for file in files for ending in SHARD_ENDINGS if _ends(file, ending)}
    return shards | {storage.parent(file) for file in files}


def _ends(file: str, ending: str) -> bool:
    return file.lower().endswith(ending)


def _holds_labels(file: str) -> bool:
    try:
        start = storage.read_bytes(file, start=0, length=_HEAD_BYTES)
    except storage.StorageError:
        return False
    text = decoded(start, "replace")
    return bool(labels_in_text(text if len(start) < _HEAD_BYTES else text.rpartition("\n")[0]))


def advice(file: str) -> str:
    """Return what to do with a file that is no source, by its name; empty where nobody knows."""
    name = storage.name(file).lower()
    if name.endswith(PACKED) or _PACKED_PART.search(name):
        return "unpack it first"
    for endings, what in _ADVICE.items():
        if any(ending in name if ending == ".tfrecord" else name.endswith(ending) for ending in endings):
            return what
    return ""


def _why_not(file: str) -> str:
    ending = ending_of(file) if "." in storage.name(file) else ""
    what = advice(file)
    if what == "unpack it first":
        return f"packed files (.{ending}), which must be unpacked first"
    if what:
        return f".{ending} files ({what})"
    if ending == "xml":
        return LABELS
    return f".{ending} files, which are no part of a source" if ending else "files without ending"


def first_fields(uri: str) -> dict[str, Any]:
    """Return the fields of the first lines of a JSON-lines file that are objects, each as the first that has it."""
    start = decoded(storage.read_bytes(uri, start=0, length=_CHUNK_BYTES), "replace")
    lines = (line for line in start.split("\n") if line.strip())
    found: dict[str, Any] = {}
    for line in islice(lines, _LINES_LOOKED_AT):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(fields, dict):
            found |= {name: value for name, value in fields.items() if name not in found}
    return found


def is_document(uri: str) -> bool:
    """Return whether a file of JSON lines is one document, or has rows over several lines."""
    start = decoded(storage.read_bytes(uri, start=0, length=_HEAD_BYTES), "replace").lstrip()
    return start.startswith("[") or start.partition("\n")[0].strip() == "{"


def is_shard(uri: str) -> bool:
    """Return whether a file is a shard, by its name."""
    return uri.lower().endswith(SHARD_ENDINGS)
