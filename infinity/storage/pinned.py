"""A file from a disk, a bucket or the web whose content is known beforehand: checked before anything reads it."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import httpx

from infinity import storage
from infinity.config import Config


class PinnedFileError(ValueError):
    """A file cannot be had, or is not the one that is meant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile(Config):
    """Where a file lies and what it must contain.

    Attributes:
        uri: Local path, s3:// or http(s):// URI.
        sha256: The first 8 to 64 hexadecimal digits of its checksum; None where another checksum is given, or where any
            content will do.
        git_blob: The file's name in a git repository: sha1 over its length and content, 40 digits; or None.
    """

    uri: str
    sha256: str | None = None
    git_blob: str | None = None

    def __post_init__(self) -> None:
        if not self.uri.strip():
            raise ValueError("PinnedFile.uri: expected a path or URI, got an empty text")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"PinnedFile.sha256: expected 8 to 64 lower-case hexadecimal digits, got {self.sha256!r}")
        if self.git_blob is not None and not re.fullmatch(r"[0-9a-f]{40}", self.git_blob):
            raise ValueError(f"PinnedFile.git_blob: expected 40 lower-case hexadecimal digits, got {self.git_blob!r}")

    def read(self) -> bytes:
        """The file's content, which is what the checksums say; what comes from the web is kept in the user's cache.

        Raises:
            PinnedFileError: No download, or another content.
            StorageError: The file is missing or unreadable.
        """
        if not self.uri.startswith(("http://", "https://")):
            return self._checked(storage.read_bytes(self.uri), self.uri)
        cached = cache_folder() / hashlib.sha256(self.uri.encode()).hexdigest()[:16] / storage.name(self.uri)
        if cached.exists() and (self.sha256 or self.git_blob):
            return self._checked(cached.read_bytes(), str(cached))
        try:
            response = httpx.get(self.uri, follow_redirects=True, timeout=60)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise PinnedFileError(
                f"{self.uri}: no download ({error}); fetch the file elsewhere and give its path instead"
            ) from error
        data = self._checked(response.content, self.uri)
        storage.write_bytes(str(cached), data)
        return data

    def _checked(self, data: bytes, where: str) -> bytes:
        found = hashlib.sha256(data).hexdigest()
        if self.sha256 is not None and not found.startswith(self.sha256):
            raise PinnedFileError(
                f"{where}: expected sha256 {self.sha256}, found {found}; the file is damaged or another one"
            )
        blob = git_blob_id(data)
        if self.git_blob is not None and blob != self.git_blob:
            raise PinnedFileError(
                f"{where}: expected the git blob {self.git_blob}, found {blob}; the file is damaged or another one"
            )
        return data


def git_blob_id(data: bytes) -> str:
    """The name that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def cache_folder() -> Path:
    """Where downloads are kept: ``XDG_CACHE_HOME``, else ``~/.cache``, and in it ``infinity``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infinity"
