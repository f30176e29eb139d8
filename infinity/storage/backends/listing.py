"""Files below a folder of this machine, and where links lead: every folder once, whatever links lead back into it."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Entry = tuple[str, int, str]
"""Path relative to the folder with "/", bytes, time of change."""

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Files below a folder.

    Attributes:
        entries: All files, sorted by path.
        outside: Links to files and folders that lie below none of the allowed roots, and links to nothing, sorted; what
            is behind them was not looked at. Without roots there are none.
    """

    entries: list[Entry] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def walk(folder: Path, roots: Sequence[Path] | None = None) -> Listing:
    """List a folder with all below it.

    Links are followed, but no folder is entered twice: a link to a folder that is listed anyway adds nothing, so that
    links that lead in circles end. What lies in real folders comes under the shortest real path.

    Args:
        roots: Folders below which everything must lie, links resolved; None allows every place.

    Raises:
        OSError: A folder cannot be read.
    """
    real_roots = None if roots is None else [os.path.realpath(root) for root in roots]
    found, seen = Listing(), set[tuple[int, int]]()
    waiting = deque([""])
    while waiting:
        links: list[str] = []
        while waiting:
            base = waiting.popleft()
            status = os.stat(folder / base)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for name, is_folder, is_link in _names(folder / base):
                path = f"{base}/{name}" if base else name
                if is_link and real_roots is not None and not lies_below(folder / path, real_roots):
                    found.outside.append(path)
                elif is_folder:
                    (links if is_link else waiting).append(path)
                elif (entry := _entry(folder, path)) is not None:
                    found.entries.append(entry)
                elif is_link and real_roots is not None:
                    found.outside.append(path)  # to nothing: it is told, as every file of a source
        waiting.extend(sorted(links))
    found.entries.sort()
    found.outside.sort()
    return found


def lies_below(path: Path | str, real_roots: Sequence[str]) -> bool:
    """Return whether a path, with all links resolved, is one of the folders or lies below one."""
    real = os.path.realpath(path)
    return any(real == root or real.startswith(root.rstrip("/") + "/") for root in real_roots)


def _names(folder: Path) -> Iterator[tuple[str, bool, bool]]:
    """Yield (name, whether it is or leads to a folder, whether it is a link) of what is in a folder, in order.

    A link that points nowhere is no entry.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                continue
            yield entry.name, is_folder, entry.is_symlink()


def _entry(folder: Path, path: str) -> Entry | None:
    try:
        status = os.stat(folder / path)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return path, status.st_size, str(status.st_mtime_ns)
