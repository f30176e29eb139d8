"""Folders that are given to other libraries hold files only: opening a pipe would wait for its writer without end."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from infinity.storage.errors import StorageError


def check_plain_files(place: Path | str) -> None:
    """Refuse a path, or a folder with an entry, that is a pipe, a socket or a device.

    Args:
        place: Path of a file or folder; what is not there, such as a hub name, passes.

    Raises:
        StorageError: Something there is neither a file nor a folder.
    """
    path = Path(place)
    inner: list[Path] = []
    with suppress(OSError, ValueError):
        inner = sorted(path.iterdir()) if path.is_dir() else []
    for each in (path, *inner):
        _check(each)


def _check(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # absent, or a link that leads nowhere: whoever opens it says so
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise StorageError(f"cannot read {path}: expected a file, found a pipe, a socket or a device")
