"""Names in tables that were written on another system, matched with the files that are there.

Windows separates folders by backslashes, macOS decomposes letters with accents, and both ignore capitals. A name that
no file has is compared without these differences; it counts where exactly one file matches. So does a name without its
ending, with blanks behind it, or quoted as in an address (``my%20cat.png``). Where none of the pictures of a table lie
where it says, as with COCO's, the one file that ends with the name is meant; of several, the one below a folder that
the table's own name repeats. Where a data set was moved, its names begin with the folder where it once lay, on any
system; the longest rest that is a file here is meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from infinity.data.sources.fence import Slice
from infinity.data.sources.samples import Record

_READ = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2",
    ".j2k",
)  # fmt: skip
PICTURE_ENDINGS = (*_READ, ".heic", ".heif", ".jxl")
"""Endings of pictures; of some of them the data stage can only say why it cannot read them."""


def is_picture(uri: str) -> bool:
    """Return whether a file is a picture, by its name; hidden files, which some systems leave behind, are none."""
    return uri.lower().endswith(PICTURE_ENDINGS) and not uri.rpartition("/")[2].startswith(".")


def folded(name: str) -> str:
    """Return what is left of a name without what systems change: capitals, and how accents are written."""
    return _composed(_composed(name).casefold())


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    composed = _composed(name)
    folder, slash, file = composed.rpartition("/")
    return folder + slash + file.rpartition(".")[0] if composed.lower().endswith(PICTURE_ENDINGS) else composed + "/"


def _last(name: str) -> str:
    return _composed(name).rpartition("/")[2]


def _last_stem(name: str) -> str:
    return _stem(name).rpartition("/")[2]


def _number(name: str) -> str:
    """Return the number that a file is called by, without zeros before it: 42 of ``COCO_val2014_000000000042.jpg``."""
    digits = _last_stem(name).rpartition("_")[2]
    return (digits.lstrip("0") or "0") if digits.isdecimal() else ""


class FileNames:
    """The files of a folder by their names, and by what is left of those without what systems change.

    Args:
        files: URIs of all files.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._by: dict[Callable[[str], str], dict[str, list[str]]] = {}

    def match(self, uri: str) -> str:
        """Return the one file that a name means; the name itself where a file has it, or none or several match."""
        if uri in self._files or "://" in uri.partition("s3://")[2]:
            return uri
        for name in dict.fromkeys((uri, uri.rstrip(), unquote(uri))):
            if (found := self._alike(name)) in self._files:
                return found
        return uri

    def _alike(self, uri: str) -> str:
        if uri in self._files:
            return uri
        forms = (_composed, folded) if uri.lower().endswith(PICTURE_ENDINGS) else (_composed, folded, _stem)
        for form in forms:
            found = self._forms(form).get(form(uri) if form is not _stem else _composed(uri), ())
            if len(found) == 1:
                return found[0]
        return uri

    def of_table(self, places: Iterable[str], folders: Sequence[str], table: str = "") -> Callable[[str], str]:
        """Return the function that matches the names of one table.

        Args:
            places: Places of some of its pictures, as the table gives them.
            folders: URIs of the table's folder and of the source.
            table: Name of the table; where several files end with a name, the one below a folder that it names is
                meant, such as ``val2017`` in ``captions_val2017.json``.
        """
        some = list(places)
        if not self._files or any(self.match(uri) in self._files for uri in some):
            return self.match
        start = folders[0].rstrip("/") + "/"

        def elsewhere(uri: str) -> str:
            if not uri.startswith(start):
                return self.match(uri)
            return self._by_end(uri[len(start) :], table) or uri

        if any(elsewhere(uri) in self._files for uri in some):
            return elsewhere
        return self._moved(some, folders) or self.match

    def _moved(self, places: Sequence[str], folders: Sequence[str]) -> Callable[[str], str] | None:
        """Return the function for a data set that was moved: all names begin with the folder where it once lay."""
        found: Counter[tuple[str, str]] = Counter()
        for uri in places:
            cuts = (at + 1 for at, letter in enumerate(uri) if letter == "/")
            starts = ((uri[:at], folder.rstrip("/") + "/") for at in cuts for folder in folders)
            first = next((pair for pair in starts if self.match(pair[1] + uri[len(pair[0]) :]) in self._files), None)
            found.update([first] if first else [])
        if not found:
            return None
        (old, new), _ = found.most_common(1)[0]
        return lambda uri: self.match(new + uri[len(old) :] if uri.startswith(old) else uri)

    def _by_end(self, name: str, table: str) -> str | None:
        """Return the one file that ends with a name, with or without its ending."""
        last = _composed(name.rpartition("/")[2])
        is_whole = name.lower().endswith(PICTURE_ENDINGS)
        by_name = self._forms(_last if is_whole else _last_stem).get(last, ())
        wanted = "/" + _composed(name)
        found = [uri for uri in by_name if (_composed(uri) if is_whole else _stem(uri)).endswith(wanted)]
        if len(found) > 1:
            words = re.split(r"[\W_]+", table.rpartition(".")[0])
            found = [uri for uri in found if any(part in words for part in uri.split("/")[:-1] if part)]
        if not found and name.isdecimal():
            found = self._forms(_number).get(name.lstrip("0") or "0", [])
        return found[0] if len(found) == 1 else None

    def _forms(self, form: Callable[[str], str]) -> dict[str, list[str]]:
        if form not in self._by:
            found: dict[str, list[str]] = defaultdict(list)
            for uri in self._files:
                found[form(uri)].append(uri)
            self._by[form] = found
        return self._by[form]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A slice some of whose pictures have other names in the folder than in the table."""

    piece: Slice
    names: Mapping[str, str]

    @property
    def first_row(self) -> int:
        """Smallest row number of the slice."""
        return self.piece.first_row

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield the slice's records, or those of ``wanted`` rows."""
        for record in self.piece.read(wanted):
            if isinstance(record.image, str) and record.image in self.names:
                record = replace(record, image=self.names[record.image])
            yield record
