"""Small files of the state folder that are read back: whatever damage came to one, the error names the file."""

import json
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

R = TypeVar("R")


def read_word(path: Path) -> str:
    """Return the text of a file without spaces around it.

    Raises:
        ValueError: Not UTF-8.
    """
    try:
        return path.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#x} at offset {error.start}"
        raise ValueError(f"{path}: expected UTF-8 text, found {found}; restore the file or delete it") from error


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        ValueError: No JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, found something else ({error})") from error


def record_of(record_type: type[R], found: object, where: str) -> R:
    """Return a record from JSON.

    Args:
        record_type: Data class whose fields are plain values.
        where: Place of the JSON, for messages.

    Raises:
        ValueError: A field is missing, unknown, or of another type.
    """
    hints = get_type_hints(record_type)
    if not isinstance(found, dict):
        raise ValueError(f"{where}: expected an object with {', '.join(hints)}, found {found!r:.80}")
    for name, value in found.items():
        if type(value) is not hints.get(name):
            expected = f"{name} to be {hints[name].__name__}" if name in hints else f"one of {', '.join(hints)}"
            raise ValueError(f"{where}: expected {expected}, found {name!r:.80} with {value!r:.80}")
    try:
        return record_type(**found)
    except TypeError as error:
        raise ValueError(f"{where}: expected all fields of {record_type.__name__} ({error})") from error
