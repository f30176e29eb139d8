"""Picture files: endings of pictures, those that Pillow decodes, and digests of their content."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from PIL import Image

from infinity import storage
from infinity.data.sources.folders.archives import below, is_hidden
from infinity.data.sources.folders.file_names import PICTURE_ENDINGS

_ENDINGS = (
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "ppm", "pgm",
    "pnm", "jp2", "j2k", "tga",
)  # fmt: skip
_KNOWN = frozenset({*PICTURE_ENDINGS, ".hif", *(f".{ending}" for ending in _ENDINGS)})
_THREADS = 8

logger = logging.getLogger(__name__)
_File = TypeVar("_File", str, storage.FileInfo)


@cache
def endings() -> frozenset[str]:
    """Return the endings of picture files that the installed Pillow decodes, in lower case with their dot."""
    known = Image.registered_extensions()
    decodable = {f".{ending}" for ending in _ENDINGS if known.get(f".{ending}", "") in Image.OPEN}
    return frozenset(decodable | {".jfif"})  # a JPEG by another name


def is_picture(path: str) -> bool:
    """Return whether a file's name is that of a picture; hidden files, such as those that macOS adds, are not.

    Pictures that Pillow does not decode (HEIC, JPEG XL) are pictures too: left out in silence, a score would be about
    fewer pictures than there are.
    """
    return (ending := _ending(path)) in endings() or ending in _KNOWN


def in_sight(folder: str, files: Sequence[_File]) -> list[_File]:
    """Return the files of a folder without hidden ones and what lies in hidden folders: old copies and thumbnails.

    Pictures among these are told once, in a warning.
    """
    uris = [file if isinstance(file, str) else file.uri for file in files]
    hidden = [is_hidden(below(folder, uri)) for uri in uris]
    if pictures := [uri for uri, out in zip(uris, hidden, strict=True) if out and is_picture(uri)]:
        _tell_of_hidden(folder, len(pictures), below(folder, pictures[0]))
    return [file for file, out in zip(files, hidden, strict=True) if not out]


@cache
def _tell_of_hidden(folder: str, number: int, first: str) -> None:
    logger.warning("%s: %d pictures in hidden folders are not read (first: %s)", folder, number, first)


def is_decoded(path: str) -> bool:
    """Return whether Pillow decodes files with this ending, or the file has none."""
    return _ending(path) not in _KNOWN - endings()


def is_text(path: str) -> bool:
    """Return whether a file's name is that of a text, ``.txt`` in any case; hidden files are not."""
    return _ending(path) == ".txt"


def _ending(path: str) -> str:
    """Return the ending of a file in lower case with its dot; empty for hidden files and for none."""
    name = path.rsplit("/", 1)[-1].lower()
    return "" if name.startswith(".") or "." not in name else f".{name.rsplit('.', 1)[-1]}"


def content_digest(info: storage.FileInfo) -> str:
    """Return a name of a file's content: its sha256 on a disk, its ETag in S3; times are not part of it."""
    if storage.local_path(info.uri) is None:
        return f"etag {info.version} {info.num_bytes}"
    return storage.sha256(info.uri)


def digest_of_files(files: Iterable[tuple[str, storage.FileInfo]]) -> str:
    """Return 16 hexadecimal digits over names and contents of files."""
    listed = sorted(files, key=lambda pair: pair[0])
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(lambda pair: content_digest(pair[1]), listed)
        lines = [f"{name}\0{digest}\n" for (name, _), digest in zip(listed, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
