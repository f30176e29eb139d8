"""The record of a checkpoint folder: the checksums of its files, and the marker that confirms them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infinity import storage
from infinity.config import ConfigError, parse_json

FORMAT = 1
JOINT_FORMAT = 2
"""Format of folders whose files hold rows of tensors; older readers, which know only whole tensors, refuse it."""

CONFIG_FILE = "config.json"
CHECKSUMS_FILE = "checksums.json"
MARKER_FILE = "COMMITTED"


class CheckpointError(ValueError):
    """A folder is not a checkpoint, is damaged, or belongs to another model; the message says which and where."""


def is_committed(uri: str) -> bool:
    """Return whether a finished checkpoint lies at the URI; its files are not verified."""
    return storage.exists(storage.join(uri, MARKER_FILE))


def to_json(data: Any) -> bytes:
    """Write JSON in the form of a checkpoint's files; NaN is refused."""
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest_of(checksums: bytes) -> str:
    """Return the 16 hexadecimal digits of the marker."""
    return hashlib.sha256(checksums).hexdigest()[:16]


def read_checksums(uri: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Read digest and files of a finished checkpoint.

    Raises:
        CheckpointError: The folder is missing or unfinished, or its list is damaged.
    """
    if not is_committed(uri):
        if storage.exists(uri):
            raise CheckpointError(
                f"{uri}: no finished checkpoint: the file {MARKER_FILE}, which is written last, is missing"
            )
        raise CheckpointError(f"{uri}: expected a checkpoint folder, found nothing there")
    marker = storage.read_bytes(storage.join(uri, MARKER_FILE)).decode("utf-8", "replace").strip()
    with _expected_there(uri, CHECKSUMS_FILE):
        data = storage.read_bytes(storage.join(uri, CHECKSUMS_FILE))
    if digest_of(data) != marker:
        raise CheckpointError(f"{uri}: damaged checkpoint: {CHECKSUMS_FILE} is not the one that was committed")
    return marker, _files(storage.join(uri, CHECKSUMS_FILE), data)


def _files(where: str, data: bytes) -> dict[str, dict[str, Any]]:
    """Parse a list of checksums; all its files must lie in the folder itself."""
    found = _parsed(where, data)
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or CONFIG_FILE not in files:
        raise CheckpointError(f"{where}: expected an object whose 'files' list {CONFIG_FILE} and the files of tensors")
    for name, entry in files.items():
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            raise CheckpointError(f"{where}: expected names of files in the same folder, found {name!r:.80}")
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise CheckpointError(f"{where}: expected a sha256 of {name!r:.80}, found {typed(entry)}")
    return files


def read_about(uri: str, files: Mapping[str, Mapping[str, Any]], kind: str | None) -> dict[str, Any]:
    """Read kind, configuration and extra, and check their types.

    Args:
        kind: Expected kind; None accepts any.

    Raises:
        CheckpointError: The file is damaged, of another format or kind, or lacks one of these.
    """
    where = storage.join(uri, CONFIG_FILE)
    about = _parsed(where, read_verified(uri, CONFIG_FILE, files[CONFIG_FILE]))
    if not isinstance(about, dict):
        raise CheckpointError(f"{where}: expected an object that describes a checkpoint, found {typed(about)}")
    version = about.get("format")
    if isinstance(version, bool) or version not in (FORMAT, JOINT_FORMAT):
        raise CheckpointError(
            f"{uri}: expected checkpoint format {FORMAT} or {JOINT_FORMAT}, found {version!r:.80}, that of "
            "another version"
        )
    fields: tuple[tuple[str, type], ...] = (("kind", str), ("config", dict), ("extra", dict))
    if version == JOINT_FORMAT:
        fields += (("pieces", dict),)
    for name, expected in fields:
        if name not in about or not isinstance(about[name], expected):
            found = typed(about[name]) if name in about else "nothing"
            raise CheckpointError(f"{where}: expected {_NAMES[expected]} under {name!r}, found {found}")
    if kind is not None and about["kind"] != kind:
        raise CheckpointError(f"{uri}: expected a checkpoint of kind {kind!r}, found {about['kind']!r:.80}")
    return about


_NAMES: dict[type, str] = {str: "a text", dict: "an object"}


def _parsed(where: str, data: bytes) -> Any:
    try:
        return parse_json(data, where=where)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def typed(value: Any) -> str:
    """Return the type and the beginning of a value, for messages."""
    return f"{type(value).__name__} {value!r:.80}"


@contextmanager
def _expected_there(uri: str, name: str) -> Iterator[None]:
    try:
        yield
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: {name} is missing") from error


def verify(uri: str, name: str, expected: Mapping[str, Any]) -> None:
    """Compare a file's sha256 with the one that was committed.

    Raises:
        CheckpointError: The sha256 differs, or the file is missing.
    """
    with _expected_there(uri, name):
        found = storage.sha256(storage.join(uri, name))
    _compare(uri, name, found, expected)


def read_verified(uri: str, name: str, expected: Mapping[str, Any]) -> bytes:
    """Read a file and verify the same bytes, so that nothing can change between check and use.

    Raises:
        CheckpointError: The sha256 differs, or the file is missing.
    """
    with _expected_there(uri, name):
        data = storage.read_bytes(storage.join(uri, name))
    _compare(uri, name, hashlib.sha256(data).hexdigest(), expected)
    return data


def _compare(uri: str, name: str, found: str, expected: Mapping[str, Any]) -> None:
    if found != expected["sha256"]:
        raise CheckpointError(
            f"{uri}: damaged checkpoint: {name} has the sha256 {found[:16]}..., expected {expected['sha256'][:16]}...; "
            "copy it again or use another checkpoint"
        )
