"""Files of a repository on a Hugging Face hub: list, download, resume, verify; every failure is one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

ENDPOINT = "https://huggingface.co"
_TRIES = 5
_TIMEOUT = httpx.Timeout(60, connect=15)

OnBytes = Callable[[int, int], None]
"""Callback of a download: bytes that are there, and bytes of all files."""


class PullError(ValueError):
    """A file of a hub cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: Path in the repository.
        num_bytes: Size.
        sha256: Checksum; None where the hub states none, as for small files.
    """

    path: str
    num_bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at a revision.

    Attributes:
        name: ``owner/name``.
        revision: Branch, tag or commit.
        endpoint: Address of the hub, without a final slash.
        token: Access token, sent to this address alone; None for none.
    """

    name: str
    revision: str
    endpoint: str
    token: str | None = None

    @classmethod
    def from_environment(cls, name: str, revision: str = "main") -> HubRepository:
        """Return a repository at the hub of HF_ENDPOINT, with the token of HF_TOKEN, if these are set."""
        endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        return cls(name, revision, endpoint, os.environ.get("HF_TOKEN") or None)

    def licence(self) -> str:
        """Return the licence that the repository states, or "not stated".

        Raises:
            PullError: The hub cannot be reached, or has no such repository.
        """
        about = self._json(f"api/models/{self.name}/revision/{quote(self.revision, safe='')}")
        card = about.get("cardData") if isinstance(about, dict) else None
        found = card.get("license") if isinstance(card, dict) else None
        return found if isinstance(found, str) and found else "not stated"

    def files(self, sources: Sequence[str]) -> list[HubFile]:
        """Return the files of the given files and folders, sorted.

        Raises:
            PullError: The hub cannot be reached, or the repository lacks one of them.
        """
        listed = self._json(f"api/models/{self.name}/tree/{quote(self.revision, safe='')}?recursive=true")
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        every = [_file(entry) for entry in entries if entry.get("type") == "file"]
        found = []
        for source in sources:
            some = [file for file in every if file.path == source or file.path.startswith(f"{source}/")]
            if not some:
                raise PullError(f"{self.endpoint}/{self.name}: the repository has no {source} at {self.revision}")
            found += some
        return sorted(found, key=lambda file: file.path)

    def download(self, files: Sequence[HubFile], folder: Path, on_bytes: OnBytes | None = None) -> None:
        """Download files into a folder; those that are there and whole are taken, parts are continued.

        Raises:
            PullError: A file cannot be had, is not what the hub states, or there is no room.
        """
        total, done = sum(file.num_bytes for file in files), 0
        self._check_room(files, folder)
        for file in files:
            before = done

            def count(there: int, before: int = before) -> None:
                if on_bytes is not None:
                    on_bytes(before + there, total)

            self._fetch(file, folder / file.path, count)
            done += file.num_bytes

    def _check_room(self, files: Sequence[HubFile], folder: Path) -> None:
        needed = sum(file.num_bytes - _there(folder / file.path) for file in files)
        root = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(root).free
        if needed > free:
            raise PullError(
                f"{folder}: {needed / 1e9:.2f} GB are still to come, the disk has {free / 1e9:.2f} GB free; make room, "
                "or choose another folder with --downloads"
            )

    def _fetch(self, file: HubFile, path: Path, count: Callable[[int], None]) -> None:
        part = path.with_name(path.name + ".part")
        try:
            if path.is_file() and path.stat().st_size == file.num_bytes and _is_content(file, path):
                count(file.num_bytes)
                return
            part.parent.mkdir(parents=True, exist_ok=True)
            self._fetch_part(file, part, count)
            self._verify(file, part)
            part.replace(path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PullError(
                    f"{part}: the disk is full; make room and run the command again, which goes on from here"
                ) from error
            raise PullError(f"{part}: cannot be written ({error.strerror or error})") from error

    def _fetch_part(self, file: HubFile, part: Path, count: Callable[[int], None]) -> None:
        for attempt in range(1, _TRIES + 1):
            before = part.stat().st_size if part.exists() else 0
            try:
                self._stream(file, part, count)
                if part.stat().st_size == file.num_bytes:
                    return
                reason = "the connection ended early"
            except httpx.TransportError as error:
                reason = _words(error)
            there = part.stat().st_size if part.exists() else 0
            if attempt == _TRIES or (attempt > 1 and there == before):
                break
            time.sleep(0.2 * attempt)
        raise PullError(
            f"{self._address(file)}: interrupted after {there:,} of {file.num_bytes:,} bytes ({reason}); run the "
            "command again, which goes on from there"
        )

    def _stream(self, file: HubFile, part: Path, count: Callable[[int], None]) -> None:
        there = part.stat().st_size if part.exists() else 0
        if there > file.num_bytes:
            part.unlink()
            there = 0
        if there == file.num_bytes and part.exists():
            return
        headers = self._headers() | ({"Range": f"bytes={there}-"} if there else {})
        options: dict[str, Any] = {"headers": headers, "follow_redirects": True, "timeout": _TIMEOUT}
        with httpx.stream("GET", self._address(file), **options) as response:
            self._check(response, file.path)
            goes_on = response.status_code == 206
            with part.open("ab" if goes_on else "wb") as target:
                for piece in response.iter_raw():  # as it comes: what a cut connection brought is kept
                    target.write(piece)
                    count(target.tell())

    def _verify(self, file: HubFile, part: Path) -> None:
        if not _is_content(file, part):
            found = _sha256(part)
            part.unlink()
            raise PullError(
                f"{self._address(file)}: expected sha256 {file.sha256}, found {found}; the download was damaged and is "
                "deleted; run the command again"
            )

    def _json(self, path: str) -> Any:
        address = f"{self.endpoint}/{path}"
        try:
            response = httpx.get(address, headers=self._headers(), follow_redirects=True, timeout=_TIMEOUT)
        except httpx.TransportError as error:
            raise PullError(
                f"{self.endpoint}: cannot be reached ({_words(error)}); are you offline? Files that you have import "
                "without it: 'infinity published --help'"
            ) from error
        self._check(response, self.name)
        try:
            return response.json()
        except ValueError as error:
            raise PullError(f"{address}: expected JSON, found something else; is {self.endpoint} a hub?") from error

    def _check(self, response: httpx.Response, what: str) -> None:
        status = response.status_code
        if status in (401, 403):
            raise PullError(f"{self.endpoint}: refuses {what} ({status}); set HF_TOKEN to a token that may read it")
        if status == 404:
            raise PullError(f"{self.endpoint}: has no {what} (404)")
        if status == 429:
            raise PullError(f"{self.endpoint}: asks to come back later (429); run the command again in a while")
        if status >= 400:
            raise PullError(f"{self.endpoint}: answers {status} for {what}; run the command again later")

    def _address(self, file: HubFile) -> str:
        return f"{self.endpoint}/{self.name}/resolve/{quote(self.revision, safe='')}/{quote(file.path)}"

    def _headers(self) -> dict[str, str]:
        plain = {"User-Agent": "infinity-t2i", "Accept-Encoding": "identity"}
        return plain | ({"Authorization": f"Bearer {self.token}"} if self.token else {})


def _file(entry: dict[str, Any]) -> HubFile:
    lfs = entry.get("lfs") or {}
    path = str(entry.get("path", ""))
    if path.startswith("/") or ".." in path.split("/") or "\\" in path:
        raise PullError(f"{path!r:.100}: the hub lists a path outside its repository")
    return HubFile(path, int(lfs.get("size", entry.get("size", 0))), lfs.get("oid"))


def _is_content(file: HubFile, path: Path) -> bool:
    """Return whether a file holds what the hub states; another revision's file may have the same name and size."""
    return file.sha256 is None or _sha256(path) == file.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _there(path: Path) -> int:
    part = path.with_name(path.name + ".part")
    return next((each.stat().st_size for each in (path, part) if each.is_file()), 0)


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
