"""Tables of prompt and picture file, which match pictures of any name to prompts."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.config import parse_json
from infinity.data.sources.columns import place_of
from infinity.evaluation.pictures.files import is_picture
from infinity.storage.lines import json_objects

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PROMPT_NAMES = ("prompt", "caption", "text", "prompts", "prompt_en", "prompt_zh", "prompt_cn")
FILE_NAMES = ("file", "path", "image", "picture", "file_name", "filename", "image_path", "file_path")
_TOLD = re.compile(r'"?sep=([,;|\t])"?\s*')
"""First line by which spreadsheets tell each other what separates cells."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, stripped of blanks at its ends, and the URI of a picture that was drawn for it."""

    prompt: str
    uri: str


def is_table(uri: str) -> bool:
    """Return whether a URI names a table, by its ending."""
    return uri.lower().endswith(TABLE_ENDINGS)


def form_of(uri: str) -> str:
    """Return the ending of a file by which its form is known, in lower case; ``.ndjson`` is another name of ``.jsonl``.

    Example:
        >>> form_of("Prompts.JSONL"), form_of("a.ndjson"), form_of("prompts")
        ('.jsonl', '.jsonl', '')
    """
    ending = PurePosixPath(uri.lower()).suffix
    return ".jsonl" if ending == ".ndjson" else ending


def has_pictures(data: bytes, uri: str) -> bool:
    """Return whether a file of prompts is a table that also names pictures; a list of prompts alone is not."""
    if form_of(uri) not in TABLE_ENDINGS:
        return False
    try:
        row: object = next((row for _, row in table_rows(data, uri)), None)
    except ValueError:
        return False  # the reader of lists reports what is wrong
    return isinstance(row, Mapping) and not {_spelled(name) for name in row}.isdisjoint(FILE_NAMES)


def prompt_key(prompt: str) -> str:
    """Return the form of a prompt by which texts are matched: without blanks at its ends, in Unicode's form NFC.

    Example:
        >>> prompt_key(" cafe\\u0301") == prompt_key("caf\\u00e9")
        True
    """
    return unicodedata.normalize("NFC", prompt.strip())


def read_table(uri: str, data: bytes | None = None) -> tuple[Row, ...]:
    """Return the rows of a table: CSV or TSV with a header, JSON lines, Parquet, or JSON.

    JSON is a list of objects, an object of prompts by file, or one of files by prompt.

    Relative paths of pictures start from the table's folder; backslashes separate folders too. Cells of a CSV file are
    separated by commas, semicolons or tabs, whichever its header is.

    Args:
        uri: URI of the table.
        data: Content of the table, where that is known already.

    Raises:
        ValueError: No column for prompts or for files, two of one name, more cells than columns, an empty cell, the
            same file twice, or no row.
        StorageError: The table is missing.
    """
    rows: dict[str, Row] = {}
    for where, cells in table_rows(storage.read_bytes(uri) if data is None else data, uri):
        _check_names(cells, where)
        prompt, file = _cell(where, cells, PROMPT_NAMES), _cell(where, cells, FILE_NAMES)
        if file.strip().lower().startswith(("http://", "https://")):
            raise ValueError(f"{where}: expected the path of a file, found {file!r:.80}; download the pictures first")
        found = _existing(storage.parent(uri), file)
        if found in rows:
            raise ValueError(f"{where}: the file {file!r} is there twice; expected one row per picture")
        rows[found] = Row(prompt.strip(), found)
    if not rows:
        raise ValueError(f"{uri}: expected rows with a prompt and a file, found none")
    return tuple(rows.values())


def _existing(folder: str, file: str) -> str:
    """Return the place of a picture: the name as it is, or without blanks, or in another Unicode form if that exists.

    Names of files come in either form: macOS writes accents as characters of their own.
    """
    place, bare = _place(folder, file), file.strip()
    forms = (bare, *(unicodedata.normalize(form, bare) for form in ("NFC", "NFD")))
    others = [other for other in (_place(folder, form) for form in forms) if other != place]
    if not others or storage.exists(place):
        return place
    return next((other for other in others if storage.exists(other)), place)


def _place(folder: str, file: str) -> str:
    place = place_of(folder, file)
    return place if storage.local_path(place) is None or "://" in place else os.path.normpath(place)


def _check_names(names: Iterable[Any], where: str) -> None:
    """Refuse two columns of one name, of which only one would be read."""
    counts = Counter(map(_spelled, names))
    if twice := [name for name in (*PROMPT_NAMES, *FILE_NAMES) if counts[name] > 1]:
        raise ValueError(f"{where}: expected one column {twice[0]}, found {counts[twice[0]]}; rename the others")


def _spelled(name: object) -> str:
    """Return a column's name in small letters, with bars between its words."""
    return "_".join(str(name).strip().lower().replace("-", " ").split())


def _cell(where: str, data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    by_name = {_spelled(name): value for name, value in data.items()}
    name = next((name for name in names if name in by_name), None)
    if name is None:
        raise ValueError(f"{where}: expected a column {' or '.join(names[:3])}, found {', '.join(map(str, data))}")
    value = by_name[name]
    if isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a path as {name}, found a picture inside the table; write it as a file")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected a text as {name}, found {value!r:.80}")
    return value


def plain_names(entry: object, where: str) -> object:
    """Return an object of a list of prompts with the names of its fields in small letters; others as they are.

    Where there is no ``prompt``, a ``caption`` or another of ``PROMPT_NAMES`` but ``text`` is one; where there is no
    ``id``, a ``prompt_id``.

    Raises:
        ValueError: Two fields of one name.
    """
    if not isinstance(entry, Mapping):
        return entry
    _check_names(entry, where)
    found = {_spelled(name): value for name, value in entry.items()}
    others = [("prompt", other) for other in PROMPT_NAMES if other != "text"]  # which is what shall be drawn in letters
    for name, other in (*others, ("id", "prompt_id")):
        if name not in found and other in found:
            found[name] = found[other]
    return found


def prompt_rows(data: bytes, uri: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a table of prompts without pictures, such as PartiPrompts; names of columns in small letters.

    Raises:
        ValueError: The table cannot be read, has no column for prompts, or an empty cell in it.
    """
    for where, cells in table_rows(data, uri):
        _check_names(cells, where)
        found = {_spelled(name): value for name, value in cells.items() if value not in (None, "")}
        yield where, {**found, "prompt": _cell(where, cells, PROMPT_NAMES)}


def table_rows(data: bytes, uri: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a table by the names of their columns, each behind its place.

    Raises:
        ValueError: It cannot be read; the message names the row.
    """
    ending = form_of(uri)
    if ending == ".jsonl":
        yield from json_objects(data, uri, skips_blank=True)
        return
    if ending in (".csv", ".tsv"):
        yield from _lines(data, uri, "\t" if ending == ".tsv" else ",")
        return
    for number, row in enumerate(_rows(data, uri, ending), start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{uri}, row {number}: expected an object, found {str(row)[:80]!r}")
        yield f"{uri}, row {number}", row


def _rows(data: bytes, uri: str, ending: str) -> list[Any]:
    try:
        if ending == ".parquet":
            return list(pq.read_table(io.BytesIO(data)).to_pylist())
        found = parse_json(data, where=uri)
        rows = _by_name(found) if isinstance(found, Mapping) else found
        if not isinstance(rows, list):
            raise ValueError(f"found {type(found).__name__}")
        return rows
    # Errors of pyarrow, and those of times beyond the calendar or of no zone.
    except (ValueError, OSError, pa.ArrowException, ArithmeticError, LookupError) as error:
        raise ValueError(f"{uri}: expected a table of prompt and file ({error})") from error


def _by_name(found: Mapping[str, Any]) -> list[Any] | None:
    """Return the rows of an object of prompts by file, or of files by prompt; None for any other object."""
    if found and all(is_picture(name) and isinstance(value, str) for name, value in found.items()):
        return [{"file": name, "prompt": prompt} for name, prompt in found.items()]
    several = {prompt: files if isinstance(files, list) else [files] for prompt, files in found.items()}
    if not found or not all(isinstance(file, str) and is_picture(file) for files in several.values() for file in files):
        return None
    return [{"file": file, "prompt": prompt} for prompt, files in several.items() for file in files]


def _lines(data: bytes, uri: str, usual: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a CSV or TSV file; a row with more cells than the header has columns is an error.

    Such a row comes from a separator in a text without quotation marks: the prompt would be cut there in silence.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri}: expected a table in UTF-8, found other bytes ({error}); save it as UTF-8") from error
    text, delimiter = _delimited(text, usual)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        _check_names(header, f"{uri}, line 1")
        number = 0
        for cells in reader:
            if not cells:
                continue
            number += 1
            where = f"{uri}, row {number}"
            if any(cell.strip() for cell in cells[len(header) :]):
                raise ValueError(
                    f"{where}: expected {len(header)} cells as in the header, found {len(cells)}; put texts that hold "
                    "the separator into double quotes"
                )
            yield where, dict(zip(header, (*cells, *[None] * len(header)), strict=False))
    except csv.Error as error:
        raise ValueError(
            f"{uri}, line {reader.line_num}: expected a table of prompt and file ({error}); a quotation mark at the "
            "begin of a cell must be closed, and doubled inside"
        ) from error


def _delimited(text: str, usual: str) -> tuple[str, str]:
    """Return the text behind a line that tells what separates cells, and what does: as told, or as the header has it.

    Spreadsheets write semicolons where a comma stands in numbers.
    """
    first, _, rest = text.partition("\n")
    if told := _TOLD.fullmatch(first):
        return rest, told[1]
    known = {*PROMPT_NAMES, *FILE_NAMES}
    cells = {mark: {_spelled(cell.strip(' "')) for cell in first.split(mark)} for mark in (usual, ",", ";", "\t")}
    return text, max(cells, key=lambda mark: len(cells[mark] & known))
