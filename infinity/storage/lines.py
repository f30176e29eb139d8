"""Files with one thing a line, such as JSON lines; what is wrong in one is named by its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from infinity.strict_json import ConfigError, parse_json


def text_lines(data: bytes, uri: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text in UTF-8, each behind its place, for messages.

    Only a line feed ends a line, perhaps after a carriage return: ``splitlines`` also splits at characters that a
    caption or a prompt may hold, such as U+2028.

    Args:
        data: The text; a mark of the byte order at its beginning is no part of it.
        uri: URI of the file, for messages.

    Raises:
        ValueError: Not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"{error.object[error.start]:#x} at offset {error.start}"
        raise ValueError(f"{uri}: expected UTF-8, found byte {found}") from error
    if text:
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
            yield f"{uri}, line {number}", line.removesuffix("\r")


def json_lines(data: bytes, uri: str, *, skips_blank: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the values of a file of JSON lines, each behind its place; blank lines at the end are none.

    Args:
        uri: URI of the file, for messages.
        skips_blank: Whether blank lines among the others are none either. Where a line's number is the name of what
            it holds, as in lists of prompts, they must not be passed over.

    Raises:
        ValueError: Not UTF-8, or a line that is not JSON.
    """
    blank = ""
    for where, line in text_lines(data, uri):
        if not line.strip():
            blank = blank or where
            continue
        if blank and not skips_blank:
            raise ValueError(f"{blank}: expected JSON, found an empty line before others; take it out")
        try:
            value = parse_json(line, where=where)
        except ConfigError as error:
            raise ValueError(f"{error}: {line[:80]!r}") from error
        yield where, value


def json_objects(data: bytes, uri: str, *, skips_blank: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the values of ``json_lines``, each of which must be an object.

    Raises:
        ValueError: Not UTF-8, or a line that is no object in JSON.
    """
    for where, value in json_lines(data, uri, skips_blank=skips_blank):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a JSON object, found {json.dumps(value, ensure_ascii=False)[:80]}")
        yield where, value
