"""Whether a place lies below given folders or prefixes, links resolved: what a stranger's table may name."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path

from infinity.storage.backends import archives, listing, s3
from infinity.storage.places import local_path


def inside(roots: Sequence[str | Path]) -> Callable[[str | Path], bool]:
    """Return a test whether a place lies below the roots.

    Args:
        roots: Paths of this machine, ``s3://`` URIs, and insides of archives.

    Returns:
        A function that takes a path, or a URI in S3, and says whether it is one of the roots or lies below one. A
        path is judged by where its links lead; a key with ".." by what it would name as a path.
    """
    folders = [os.path.realpath(root) for root in roots if isinstance(root, Path)]
    remote = [root for root in roots if isinstance(root, str)]
    prefixes = [s3.split(root) for root in remote if not archives.is_inside_archive(root)]
    inner = [archives.split(root) for root in remote if archives.is_inside_archive(root)]

    def test(place: str | Path) -> bool:
        if isinstance(place, Path):
            return listing.lies_below(place, folders)
        if archives.is_inside_archive(place):
            archive, name = archives.split(place)
            if any(archive == other and _is_below(name, prefix) for other, prefix in inner):
                return True
            return _is_below(name, "") and test(local_path(archive) or archive)
        bucket, key = s3.split(place)
        return any(bucket == other and _is_below(key, prefix) for other, prefix in prefixes)

    return test


def _is_below(key: str, prefix: str) -> bool:
    plain, top = posixpath.normpath(f"/{key}"), posixpath.normpath(f"/{prefix}")
    return ".." not in key.split("/") and (plain == top or plain.startswith(top.rstrip("/") + "/"))
