"""JSON from anywhere: strict about what it says, and bounded in what it may ask of the reader."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Brackets within brackets of a JSON text; no file of ours has more than a dozen."""
MAX_WHOLE_NUMBER = 2**64
"""Whole numbers of JSON are smaller; nothing that is counted or seeded needs more."""
_MOST_DIGITS = len(str(MAX_WHOLE_NUMBER)) + 1


class ConfigError(ValueError):
    """A configuration does not say what its type asks for; the message names the place, the expected and the given."""


def parse_json(text: str | bytes, *, where: str) -> Any:
    """Return the value of a JSON text that may come from anybody; its depth and numbers have bounds.

    Args:
        text: UTF-8 where it is bytes, or UTF-16 or UTF-32 that begin as JSON does; a byte order mark is skipped.
        where: Name of the place in error messages.

    Raises:
        ConfigError: No JSON, NaN or infinity, a number or a depth beyond all need, a key twice in one object, or
            halves of characters, which no file can hold.
    """

    def refuse(constant: str) -> NoReturn:
        raise ConfigError(f"{where}: expected numbers, found {constant}, which JSON does not have")

    def whole(digits: str) -> int:
        if len(digits) > _MOST_DIGITS or abs(int(digits)) >= MAX_WHOLE_NUMBER:
            raise ConfigError(f"{where}: expected whole numbers of at most 64 bits, found {_shortened(digits)}")
        return int(digits)

    def decimal(digits: str) -> float:
        if not math.isfinite(number := float(digits)):
            raise ConfigError(f"{where}: expected numbers below 1.8e308, found {_shortened(digits)}")
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
            raise ConfigError(f"{where}: the key {twice!r:.80} stands twice in one object; keep one of them")
        return found

    is_whole = isinstance(text, bytes)  # what is decoded has half characters as escapes only
    try:
        text = text.removeprefix("\ufeff") if isinstance(text, str) else _decoded(text, where)
        data = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=decimal, object_pairs_hook=unique)
        _check_depth(text, data)
        if not is_whole or "\\ud" in text or "\\uD" in text:
            _check_characters(data, where)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON ({error})") from error
    except RecursionError:
        raise ConfigError(f"{where}: expected at most {MAX_DEPTH} brackets within each other, found more") from None
    return data


def _decoded(data: bytes, where: str) -> str:
    """Decode strictly, unlike ``json.loads``, which lets encoded halves of characters pass."""
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        expected = encoding.upper().removesuffix("-SIG")
        offset = error.start + len(data) - len(error.object)  # the decoder's own place is behind the mark
        message = f"{where}: expected {expected} text, found byte {data[offset]:#04x} at offset {offset}"
        raise ConfigError(message) from error


def _check_depth(text: str, data: Any) -> None:
    num_brackets = text.count("[") + text.count("{")
    if num_brackets <= MAX_DEPTH:
        return
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(MAX_DEPTH):
        values = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for inner in values for value in inner if isinstance(value, dict | list)]
        if not level:
            return
    raise RecursionError


def _check_characters(data: Any, where: str) -> None:
    """A lone surrogate is legal as an escape, but is no character: it cannot be written to a file or a terminal."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ConfigError(f"{where}: expected whole characters, found {half}, which is half of one") from None


def _shortened(digits: str) -> str:
    return digits if len(digits) <= 24 else f"one of {len(digits)} characters ({digits[:12]}...)"
