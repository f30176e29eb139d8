"""Whether a place lies below given folders or prefixes, links resolved: what a stranger's table may name."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path

from infinity.storage.backends import listing, s3


def inside(roots: Sequence[str | Path]) -> Callable[[str | Path], bool]:
    """Return a test whether a place lies below the roots.

    Args:
        roots: Paths of this machine, and ``s3://`` URIs.

    Returns:
        A function that takes a path, or a URI in S3, and says whether it is one of the roots or lies below one. A
        path is judged by where its links lead; a key with ".." by what it would name as a path.
    """
    folders = [os.path.realpath(root) for root in roots if isinstance(root, Path)]
    prefixes = [s3.split(root) for root in roots if isinstance(root, str)]

    def test(place: str | Path) -> bool:
        if isinstance(place, Path):
            return listing.lies_below(place, folders)
        bucket, key = s3.split(place)
        return any(bucket == other and _is_below(key, prefix) for other, prefix in prefixes)

    return test


def _is_below(key: str, prefix: str) -> bool:
    plain, top = posixpath.normpath(f"/{key}"), posixpath.normpath(f"/{prefix}")
    return ".." not in key.split("/") and (plain == top or plain.startswith(top.rstrip("/") + "/"))
