"""What makes a folder a checkpoint: its files with their checksums, and the marker that names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from infinity import storage

FORMAT = 1
JOINT_FORMAT = 2
"""Of folders whose files hold rows of tensors; readers that know only whole tensors must refuse them."""

CONFIG_FILE = "config.json"
CHECKSUMS_FILE = "checksums.json"
MARKER_FILE = "COMMITTED"


class CheckpointError(ValueError):
    """A folder is no checkpoint, a damaged one, or one of another model; the message says which and where."""


def is_committed(uri: str) -> bool:
    """Whether a finished checkpoint lies at the URI; its files are not verified."""
    return storage.exists(storage.join(uri, MARKER_FILE))


def to_json(data: Any) -> bytes:
    """As the files of a checkpoint are written; no NaN."""
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest_of(checksums: bytes) -> str:
    """The 16 hexadecimal digits that the marker holds."""
    return hashlib.sha256(checksums).hexdigest()[:16]


def read_checksums(uri: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Digest and files of a finished checkpoint.

    Raises:
        CheckpointError: No folder, an unfinished one, or a damaged list.
    """
    if not is_committed(uri):
        if storage.exists(uri):
            raise CheckpointError(
                f"{uri}: no finished checkpoint: the file {MARKER_FILE}, which is written last, is missing"
            )
        raise CheckpointError(f"{uri}: expected a checkpoint folder, found nothing there")
    marker = storage.read_bytes(storage.join(uri, MARKER_FILE)).decode("utf-8", "replace").strip()
    try:
        data = storage.read_bytes(storage.join(uri, CHECKSUMS_FILE))
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: {CHECKSUMS_FILE} is missing") from error
    if digest_of(data) != marker:
        raise CheckpointError(f"{uri}: damaged checkpoint: {CHECKSUMS_FILE} is not the one that was committed")
    return marker, json.loads(data)["files"]


def read_about(uri: str, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Kind, configuration and extra, verified.

    Raises:
        CheckpointError: Damaged, or of another format.
    """
    about: dict[str, Any] = json.loads(read_verified(uri, CONFIG_FILE, files[CONFIG_FILE]))
    if about.get("format") not in (FORMAT, JOINT_FORMAT):
        raise CheckpointError(
            f"{uri}: expected checkpoint format {FORMAT} or {JOINT_FORMAT}, found {about.get('format')!r}, that of "
            "another version"
        )
    return about


def verify(uri: str, name: str, expected: Mapping[str, Any]) -> None:
    """Compare a file's sha256 with the one that was committed.

    Raises:
        CheckpointError: Another one, or no file.
    """
    try:
        found = storage.sha256(storage.join(uri, name))
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: {name} is missing") from error
    _compare(uri, name, found, expected)


def read_verified(uri: str, name: str, expected: Mapping[str, Any]) -> bytes:
    """Bytes of a file, which were compared as they came: nothing can change between look and use.

    Raises:
        CheckpointError: As ``verify``.
    """
    try:
        data = storage.read_bytes(storage.join(uri, name))
    except storage.FileMissingError as error:
        raise CheckpointError(f"{uri}: damaged checkpoint: {name} is missing") from error
    _compare(uri, name, hashlib.sha256(data).hexdigest(), expected)
    return data


def _compare(uri: str, name: str, found: str, expected: Mapping[str, Any]) -> None:
    if found != expected["sha256"]:
        raise CheckpointError(
            f"{uri}: damaged checkpoint: {name} has the sha256 {found[:16]}..., expected {expected['sha256'][:16]}...; "
            "copy it again or use another checkpoint"
        )
