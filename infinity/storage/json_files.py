"""JSON files that this project wrote and reads back: an error names the damaged file and what to do about it."""

from __future__ import annotations

from typing import Any, TypeVar

from infinity import storage
from infinity.config import Config, ConfigError, parse_json

C = TypeVar("C", bound=Config)


def read_json(uri: str, *, remedy: str) -> Any:
    """Return the value of a JSON file.

    Args:
        uri: Place of the file.
        remedy: Advice for whoever finds the file damaged, such as "restore it"; the error ends with it.

    Raises:
        ConfigError: No text in UTF-8, or no JSON.
        StorageError: The file is missing or cannot be read.
    """
    try:
        return parse_json(storage.read_bytes(uri), where=uri)
    except ConfigError as error:
        raise ConfigError(f"{error}; {remedy}") from error


def read_config(uri: str, config_type: type[C], *, remedy: str) -> C:
    """Return the configuration, record or report in a JSON file; arguments and errors as for `read_json`."""
    found = read_json(uri, remedy=remedy)
    try:
        return config_type.from_json(found, where=uri)
    except ConfigError as error:
        raise ConfigError(f"{error}; {remedy}") from error


def read_object(uri: str, *, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file; arguments and errors as for `read_json`."""
    found = read_json(uri, remedy=remedy)
    if not isinstance(found, dict):
        raise ConfigError(f"{uri}: expected a JSON object, found {found!r:.80}; {remedy}")
    return found
