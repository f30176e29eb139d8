"""Names in tables that were written on another system, matched with the files that are there.

Windows separates folders by backslashes, macOS decomposes letters with accents, and both ignore capitals. A name that
no file has is compared without these differences; it counts where exactly one file matches.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from infinity.data.sources.fence import Slice
from infinity.data.sources.samples import Record


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(_composed(name).casefold())


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
        for form in (_composed, _folded):
            found = self._forms(form).get(form(uri), ())
            if len(found) == 1:
                return found[0]
        return uri

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
