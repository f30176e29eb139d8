"""Where a URI points to: a path on this machine, or S3."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from infinity.storage.errors import StorageError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def local_path(uri: str) -> Path | None:
    """Return the path on this machine, or None for a URI in S3 or inside an archive.

    Raises:
        StorageError: The scheme of the URI is none of ours, or the text is empty.
    """
    match = SCHEME.match(uri)
    if match is None:
        return Path(named(uri))
    scheme = match[1].lower()
    if scheme == "file":
        return Path(unquote(uri[match.end() :].removeprefix("localhost")))
    if scheme in ("s3", "zip"):
        return None
    raise StorageError(f"{uri}: expected a local path, file://... or s3://bucket/key, found the scheme {scheme!r}")


def named(uri: str) -> str:
    """Return a URI that names something: an empty text would be the working directory, which nobody has named.

    Raises:
        StorageError: The text is empty, or a scheme alone.
    """
    match = SCHEME.match(uri)
    if uri == "" or (match is not None and not uri[match.end() :].strip("/") and match[1].lower() != "file"):
        raise StorageError(f"expected a path, file://... or s3://bucket/key, found {uri!r}")
    return uri


def join(uri: str, *parts: str) -> str:
    """Return the URI of ``parts`` below ``uri``; one slash between them, whatever they begin or end with."""
    joined = named(uri).rstrip("/") if uri != "/" else ""
    return "/".join([joined, *(part.strip("/") for part in parts if part.strip("/"))])


def below(uri: str, relative: str) -> str:
    """Return the URI of a relative path; only file:// URIs spell special characters as %xx."""
    return join(uri, quote(relative) if uri.lower().startswith("file://") else relative)
