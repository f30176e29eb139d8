"""What lies beside the versions of a data set and was made from their pictures: stores of latents, pages, trainings."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.spec import SPEC_FILE

_STORES = "encoded-"
"""How folders of latents and features of captions begin; they are made again when a training needs them."""

_VERSIONS = "dataset-"
_WORDS = ("caption", "caption_long", "caption_short", "further", "url")
_SHORTEST = 6
"""Shorter captions and names may stand on a page for other reasons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remains:
    """URIs of what was made from pictures that are purged.

    Attributes:
        stores: Folders of latents and features of captions.
        pages: HTML pages that show one of the pictures, or tell of it.
        readers: Folders of other jobs that read a version with the pictures: their weights, samples and sheets stay.
    """

    stores: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()

    @classmethod
    def of(cls, root: str, gone: Iterable[str], words: Set[str]) -> Remains:
        """Look for them below the folder that versions share.

        Args:
            root: The folder.
            gone: URIs of manifests that hold the pictures.
            words: Captions, addresses, names and checksums of the pictures.

        Raises:
            StorageError: Something cannot be read.
        """
        names = [f"{storage.name(storage.parent(uri))}/{storage.name(uri)}".encode() for uri in gone]
        needles = [form.encode("utf-8", "replace") for word in words for form in {word, html.escape(word)}]
        stores, pages, readers = list[str](), list[str](), list[str]()
        for uri in storage.list_files(root):
            folder = storage.parent(uri)
            is_spec = storage.name(uri) == SPEC_FILE and storage.parent(folder) == root.rstrip("/")
            if is_spec and not storage.name(folder).startswith(_VERSIONS):
                if _holds(uri, names):
                    (stores if storage.name(folder).startswith(_STORES) else readers).append(folder)
            elif uri.lower().endswith((".html", ".htm")) and _holds(uri, needles):
                pages.append(uri)
        return cls(stores=tuple(stores), pages=tuple(pages), readers=tuple(readers))


def words_of(holders: Sequence[Manifest], sums: Set[str]) -> set[str]:
    """Return captions, addresses and checksums of pictures of versions; a row group is in memory at a time.

    Args:
        holders: The versions.
        sums: Checksums of the pictures' files or pixels, in hexadecimal digits.
    """
    wanted = pa.array(sorted(sums), pa.string())
    found = set(sums)
    for manifest in holders:
        columns = [name for name in _WORDS if name != "further" or manifest.has_further]
        for rows in manifest.groups((*columns, "original_sha256", "pixels_sha256", "sha256")):
            marks = [pc.is_in(rows[name], wanted) for name in ("original_sha256", "pixels_sha256", "sha256")]
            taken = rows.filter(pc.or_(pc.or_(*marks[:2]), marks[2]))
            for name in (*columns, "sha256"):
                found.update(text for text in taken[name].to_pylist() if text)
    return {word for word in found if len(word) >= _SHORTEST}


def _holds(uri: str, needles: Sequence[bytes]) -> bool:
    data = storage.read_bytes(uri)
    return any(needle in data for needle in needles)
