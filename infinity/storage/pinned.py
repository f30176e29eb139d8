"""A file from a disk, a bucket or the web whose content is known beforehand: checked before anything reads it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import httpx

from infinity import storage
from infinity.config import Config
from infinity.ranges import NotBlank

MAX_WEB_BYTES = 2**29
"""Largest content of a web address that is read into memory; larger files are fetched to a disk."""

MAX_WEB_S = 600.0
"""Longest time of such a download in seconds, however slowly a server drips."""

_PIECE_BYTES = 4 * 2**20
_WEB_PIECE_BYTES = 2**16
"""Small, so that a slow server is noticed."""


class PinnedFileError(ValueError):
    """A file cannot be had, or is not the one that is meant."""


class NoDownloadError(PinnedFileError):
    """A file cannot be had: there is no network, or nothing at its address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile(Config):
    """Place of a file, and what the file must contain.

    Attributes:
        uri: Local path, s3:// or http(s):// URI.
        sha256: The first 8 to 64 hexadecimal digits of its checksum; None where another checksum is given, or where any
            content will do.
        git_blob: The file's name in a git repository: sha1 over its length and content, 40 digits; or None.
    """

    uri: Annotated[str, NotBlank("a path or URI")]
    sha256: str | None = None
    git_blob: str | None = None

    def __post_init__(self) -> None:
        if "\0" in self.uri:
            raise ValueError(f"PinnedFile.uri: expected a path or URI, got one with a NUL character: {self.uri!r:.200}")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"PinnedFile.sha256: expected 8 to 64 lower-case hexadecimal digits, got {self.sha256!r}")
        if self.git_blob is not None and not re.fullmatch(r"[0-9a-f]{40}", self.git_blob):
            raise ValueError(f"PinnedFile.git_blob: expected 40 lower-case hexadecimal digits, got {self.git_blob!r}")

    def read(self) -> bytes:
        """Return the file's content, compared with the checksums; downloads are kept in the user's cache.

        Raises:
            PinnedFileError: No download, or another content.
            StorageError: The file is missing or unreadable.
        """
        if not _is_web(self.uri):
            return self._checked(storage.read_bytes(self.uri), self.uri)
        cached = self._cached()
        if cached.exists() and (self.sha256 or self.git_blob):
            return self._checked(cached.read_bytes(), str(cached))
        data = self._checked(read_web(self.uri), self.uri)
        storage.write_bytes(str(cached), data)
        return data

    def fetch(self) -> Path:
        """Return a path on this machine that holds the file, for contents of gigabytes: never all of it in memory.

        A local file is used where it lies. Others are copied into the user's cache in pieces, once; without a checksum
        what lies there is taken, so that whoever reports a figure must name `digest`.

        Raises:
            PinnedFileError: No download, or another content.
            StorageError: The file is missing or unreadable.
        """
        if not _is_web(self.uri) and (path := storage.local_path(self.uri)) is not None:
            if not path.is_file():
                raise storage.FileMissingError(f"{self.uri}: expected a file, found none")
            return self._fetched(path)
        path = self._cached()
        if not path.is_file():
            draft = path.with_name(f".{path.name}.{os.getpid()}.part")
            draft.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("wb") as file:
                    for piece in self._pieces():
                        file.write(piece)
                self._fetched(draft)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        return self._fetched(path)

    def content_digest(self) -> str:
        """Return 64 hexadecimal digits of sha256 over the file as it lies there.

        Raises:
            PinnedFileError: No download, or another content.
            StorageError: The file is missing or unreadable.
        """
        return file_sha256(self.fetch())

    def _cached(self) -> Path:
        return cache_folder() / hashlib.sha256(self.uri.encode()).hexdigest()[:16] / storage.name(self.uri)

    def _pieces(self) -> Iterator[bytes]:
        if not _is_web(self.uri):
            for start in range(0, storage.size(self.uri), _PIECE_BYTES):
                yield storage.read_bytes(self.uri, start=start, length=_PIECE_BYTES)
            return
        yield from _web_pieces(self.uri)

    def _fetched(self, path: Path) -> Path:
        if self.git_blob is not None:
            self._checked(path.read_bytes(), str(path))
        elif self.sha256 is not None:
            self._check_sha256(file_sha256(path), str(path))
        return path

    def _check_sha256(self, found: str, where: str) -> None:
        if self.sha256 is not None and not found.startswith(self.sha256):
            raise PinnedFileError(
                f"{where}: expected sha256 {self.sha256}, found {found}; the file is damaged or another one"
            )

    def _checked(self, data: bytes, where: str) -> bytes:
        self._check_sha256(hashlib.sha256(data).hexdigest(), where)
        blob = git_blob_id(data)
        if self.git_blob is not None and blob != self.git_blob:
            raise PinnedFileError(
                f"{where}: expected the git blob {self.git_blob}, found {blob}; the file is damaged or another one"
            )
        return data


def read_web(uri: str) -> bytes:
    """Return the content of a web address, which must fit into memory.

    Raises:
        NoDownloadError: There is no answer, it has more than ``MAX_WEB_BYTES``, or it takes more than ``MAX_WEB_S``.
    """
    end, data = time.monotonic() + MAX_WEB_S, bytearray()
    for piece in _web_pieces(uri):
        data += piece
        if len(data) > MAX_WEB_BYTES:
            raise _no_download(uri, f"the answer has more than {MAX_WEB_BYTES:,} bytes")
        if time.monotonic() > end:
            raise _no_download(uri, f"{len(data):,} bytes in {MAX_WEB_S:g} s")
    return bytes(data)


def _web_pieces(uri: str) -> Iterator[bytes]:
    try:
        with httpx.stream("GET", uri, follow_redirects=True, timeout=60) as response:
            response.raise_for_status()
            yield from response.iter_bytes(_WEB_PIECE_BYTES)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _no_download(uri, str(error)) from error


def _no_download(uri: str, why: str) -> NoDownloadError:
    return NoDownloadError(f"{uri}: no download ({why}); fetch the file elsewhere and give its path instead")


def file_sha256(path: Path) -> str:
    """Return 64 hexadecimal digits over a local file; an unchanged file is not read again."""
    about = path.stat()
    return _sha256(str(path), about.st_size, about.st_mtime_ns)


@cache
def _sha256(path: str, num_bytes: int, changed_ns: int) -> str:
    return storage.sha256(path)


def _is_web(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def git_blob_id(data: bytes) -> str:
    """Return the name that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def cache_folder() -> Path:
    """Return where downloads are kept: ``XDG_CACHE_HOME``, else ``~/.cache``, and in it ``infinity``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infinity"
