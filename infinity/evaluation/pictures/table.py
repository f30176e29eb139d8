"""Tables of prompt and picture file, which match pictures of any name to prompts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from infinity import storage
from infinity.config import parse_json
from infinity.storage.lines import json_objects

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
PROMPT_NAMES = ("prompt", "caption", "text")
FILE_NAMES = ("file", "path", "image", "picture", "file_name", "filename", "image_path", "file_path")


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, stripped of blanks at its ends, and the URI of a picture that was drawn for it."""

    prompt: str
    uri: str


def is_table(uri: str) -> bool:
    """Return whether a URI names a table, by its ending."""
    return uri.lower().endswith(TABLE_ENDINGS)


def has_pictures(data: bytes, uri: str) -> bool:
    """Return whether a file of prompts is a table that also names pictures; a list of prompts alone is not."""
    ending = PurePosixPath(uri.lower()).suffix
    if ending in (".csv", ".tsv", ".parquet"):
        return True
    if ending not in (".json", ".jsonl"):
        return False
    try:
        first = parse_json(data.split(b"\n", 1)[0] if ending == ".jsonl" else data, where=uri)
    except ValueError:
        return False  # the reader of lists reports what is wrong
    row = first[0] if isinstance(first, list) and first else first
    return isinstance(row, Mapping) and not {str(name).lower() for name in row}.isdisjoint(FILE_NAMES)


def read_table(uri: str) -> tuple[Row, ...]:
    """Return the rows of a table: CSV or TSV with a header, JSON lines, a JSON list of objects, or Parquet.

    Relative paths of pictures start from the table's folder.

    Raises:
        ValueError: No column for prompts or for files, an empty cell, the same file twice, or no row.
        StorageError: The table is missing.
    """
    rows: dict[str, Row] = {}
    for where, data in _objects(uri):
        prompt, file = _cell(where, data, PROMPT_NAMES), _cell(where, data, FILE_NAMES)
        found = file if "://" in file or file.startswith("/") else storage.join(storage.parent(uri), file)
        if found in rows:
            raise ValueError(f"{where}: the file {file!r} is there twice; expected one row per picture")
        rows[found] = Row(prompt.strip(), found)
    if not rows:
        raise ValueError(f"{uri}: expected rows with a prompt and a file, found none")
    return tuple(rows.values())


def _cell(where: str, data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    by_name = {str(name).strip().lower(): value for name, value in data.items()}
    name = next((name for name in names if name in by_name), None)
    if name is None:
        raise ValueError(f"{where}: expected a column {' or '.join(names[:3])}, found {', '.join(map(str, data))}")
    value = by_name[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected a text as {name}, found {value!r}")
    return value


def _objects(uri: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    data, ending = storage.read_bytes(uri), PurePosixPath(uri.lower()).suffix
    if ending == ".jsonl":
        yield from json_objects(data, uri, skips_blank=True)
        return
    for number, row in enumerate(_rows(data, uri, ending), start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{uri}, row {number}: expected an object, found {str(row)[:80]!r}")
        yield f"{uri}, row {number}", row


def _rows(data: bytes, uri: str, ending: str) -> list[Any]:
    try:
        if ending == ".parquet":
            return list(pq.read_table(io.BytesIO(data)).to_pylist())
        if ending == ".json":
            found = parse_json(data, where=uri)
            if not isinstance(found, list):
                raise ValueError(f"found {type(found).__name__}")
            return found
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        return [
            {name: value for name, value in row.items() if name is not None}
            for row in csv.DictReader(text, dialect="excel-tab" if ending == ".tsv" else "excel", strict=True)
        ]
    except (ValueError, csv.Error, OSError) as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"{uri}: expected a table of prompt and file ({error})") from error
