"""Lists of captions with several lines per picture, as the Flickr data sets have them, and tables without a header.

``results.csv`` separates by bars, ``captions.txt`` by commas that captions hold as well, ``Flickr8k.token.txt`` writes
``picture.jpg#2`` before a tab. Lists that people type have a colon or a blank behind the picture. Lines of one picture
are one row with several captions.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Set
from dataclasses import dataclass

from infinity import storage
from infinity.data.sources.columns import SourceColumns, is_address
from infinity.data.sources.encodings import decoded
from infinity.data.sources.folders.file_names import PICTURE_ENDINGS
from infinity.data.sources.tables.documents import Rows
from infinity.data.sources.tables.held_rows import document

_LOOKED_AT = 2**16
_NUMBER = re.compile(r"#(?:[a-z]{2,3}#)?\d+$")
_DELIMITERS = ("|", "\t", ",", ";")
_TYPED = (": ", " ")
"""What stands behind the picture where nothing else separates; only words count as captions then, not labels."""
_WORDS = re.compile(r"[^\W\d_]+\W+[^\W\d_]+|[\u3040-\u30ff\u3400-\u9fff]{2}")
_LETTER = re.compile(r"[^\W\d_]")
_LINE_END = re.compile(r"\r\n|\n|\r")  # captions hold the other ends of lines that Python knows
_OPEN_CELL = re.compile(r'(?:^|[|\t,;]) *"(?:[^"]|"")*$')


@dataclass(frozen=True, slots=True)
class ListForm:
    """Form of a list of captions.

    Attributes:
        delimiter: Character between cells.
        picture: Place of the cell that names the picture.
        caption: Place of the caption's cell.
        has_header: Whether the first line has names of columns.
        is_url: Whether the picture's cell is an address.
    """

    delimiter: str
    picture: int
    caption: int
    has_header: bool
    is_url: bool = False


def list_form(uri: str, columns: SourceColumns, pictures: Set[str] = frozenset()) -> ListForm | None:
    """Return the form of a list of captions by its first lines; None if it is none.

    Args:
        pictures: Names of pictures of the source without their endings, which lists may use too.

    Raises:
        StorageError: The file cannot be read.
    """
    start = storage.read_bytes(uri, start=0, length=_LOOKED_AT)
    lines = _lines(decoded(start, "replace"))
    return _with_header(lines, columns) or _without_header(lines, pictures) if lines else None


def list_rows(uri: str, form: ListForm) -> Rows:
    """Return a row per picture, with all its captions, in the order of the first line of each.

    Raises:
        SourceError: The list is too large, or no text.
        StorageError: The list cannot be read.
    """
    pictures: dict[str, list[str]] = {}
    rows: Rows = []
    lines = _lines(document(uri))[form.has_header :]
    for cells in map(_Cells(form), lines):
        if isinstance(cells, str):
            rows.append(cells)
            continue
        name, caption = cells
        if name not in pictures:
            pictures[name] = []
            rows.append({"url" if form.is_url else "file_name": name, "text": pictures[name]})
        pictures[name].append(caption)
    return rows


def _lines(text: str) -> list[str]:
    """Return the lines that are not blank; a cell in quotes may go on over line ends, up to the next picture."""
    rows: list[list[str]] = []
    is_open = False
    for line in _LINE_END.split(text):
        if is_open and not _begins_row(line):
            rows[-1].append(line)
            is_open ^= bool(line.count('"') % 2)
        elif line.strip():
            rows.append([line])
            is_open = _OPEN_CELL.search(line) is not None
    return ["\n".join(row) for row in rows]


def _begins_row(line: str) -> bool:
    """Return whether a line begins with a picture or an address, or ends with one behind a tab."""
    cells = [line.split(mark, 1)[0] for mark in (*_DELIMITERS, *_TYPED)] + line.rsplit("\t", 1)[1:]
    return any(_is_picture(cell) or is_address(cell) for cell in cells)


class _Cells:
    """Picture and caption of a line, or a text that says what is wrong with it."""

    def __init__(self, form: ListForm) -> None:
        self._form = form

    def __call__(self, line: str) -> tuple[str, str] | str:
        form = self._form
        cells = _split(line, form)
        if len(cells) <= max(form.picture, form.caption):
            return f"expected a picture and a caption with {form.delimiter!r} between them, found {line[:200]!r}"
        name = cells[form.picture].strip()
        return name if form.is_url else _NUMBER.sub("", name), cells[form.caption].strip()


def _split(line: str, form: ListForm) -> list[str]:
    """Return the cells of a line; a caption behind all other cells may hold the delimiter, and quotes of its own."""
    if form.caption < form.picture:
        return line.split(form.delimiter)
    if form.delimiter in ",;" and form.caption > 1 and '"' in line:
        try:
            return next(csv.reader([line], delimiter=form.delimiter), [])
        except csv.Error:  # a cell beyond the module's limit: no picture and caption
            return []
    *cells, caption = line.split(form.delimiter, form.caption)
    return [*(cell.strip().strip('"') for cell in cells), _unquoted(caption.strip())]


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', "")
    return text[1:-1].replace('""', '"') if is_quoted else text


def _with_header(lines: list[str], columns: SourceColumns) -> ListForm | None:
    for delimiter in _DELIMITERS:
        names = [name.strip() for name in lines[0].split(delimiter)]
        pictures, captions = columns.pictures(names), (*columns.shorts(names), *columns.longs(names))
        if len(names) > 1 and pictures and captions:
            return ListForm(delimiter, names.index(pictures[0]), names.index(captions[0]), has_header=True)
    return None


def _without_header(lines: list[str], pictures: Set[str]) -> ListForm | None:
    for delimiter in _DELIMITERS:
        rows = [line.split(delimiter) for line in lines[:16]]
        for place in range(min(map(len, rows))):
            named = [_is_picture(cells[place]) or _name(cells[place]) in pictures for cells in rows]
            addresses = [is_address(cells[place]) for cells in rows]
            if all(named) or all(addresses):
                caption = _caption_place(rows, place)
                if caption is not None:
                    return ListForm(delimiter, place, caption, has_header=False, is_url=all(addresses))
    typed = (mark for mark in _TYPED if _are_typed([line.strip().split(mark, 1) for line in lines[:16]]))
    mark = next(typed, None)
    return None if mark is None else ListForm(mark, 0, 1, has_header=False)


def _are_typed(rows: list[list[str]]) -> bool:
    """Return whether each line is a picture and words: lists of classes have a number or a single word there."""
    captions = [cells[1].strip() for cells in rows if len(cells) == 2 and _is_picture(cells[0])]
    worded = [text for text in captions if _WORDS.search(text) and not _is_picture(text)]
    return len(captions) == len(rows) and 2 * len(worded) > len(rows)


def _caption_place(rows: list[list[str]], picture: int) -> int | None:
    """Return the place of the cells with the most text; names of further pictures and numbers are none."""
    lengths = {
        place: sum(len(cells[place]) for cells in rows)
        for place in range(min(map(len, rows)))
        if place != picture and any(_LETTER.search(cells[place]) and not _is_picture(cells[place]) for cells in rows)
    }
    return max(lengths, key=lambda place: lengths[place]) if lengths else None


def _is_picture(cell: str) -> bool:
    return _name(cell).lower().endswith(PICTURE_ENDINGS)


def _name(cell: str) -> str:
    """Return a picture without the number of its caption."""
    return _NUMBER.sub("", cell.strip())
