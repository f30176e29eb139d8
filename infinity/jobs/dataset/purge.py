"""Bytes that must be gone: what a takedown left in older versions, facts, quarantines and downloads of a data set.

A takedown makes a new version; the old ones still hold the picture. ``purge`` deletes those that came before and hold
it, or tell of it as a row that was dropped, and every file beside them that does, HTML pages and stores of latents
among them; what the new version or another one needs stays. ``collect_garbage`` deletes what no version needs. Both
delete shards first and manifests last, the oldest first, so that after a kill the same call finds what is left; a
version that was half deleted is marked, and goes first then. Facts that the list itself names go after the versions
that are found by them. A row group of a manifest, or the facts of one slice, are in memory at a time, besides checksums
and names of the listed pictures.
"""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity import storage
from infinity.config import parse_json
from infinity.data.curation import facts as facts_files
from infinity.data.curation.dropped import DROPPED_FILE
from infinity.data.curation.takedown import TakedownList, entries_without_rows, listed_pixels, named_rows, names_any
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.shards import INDEX_FOLDER, SHARDS_FOLDER
from infinity.data.sources import quarantine
from infinity.jobs.dataset.facts import FACTS_FOLDER, QUARANTINE_FOLDER, REDUCED_FOLDER
from infinity.jobs.dataset.large.partitioned import DECISIONS_FOLDER
from infinity.jobs.dataset.remains import Remains, words_of
from infinity.jobs.dataset.replay import REPLAYS_FOLDER
from infinity.jobs.dataset.scoring import CAPTIONS_FOLDER, SCORES_FOLDER
from infinity.jobs.dataset.sources import named_as_found
from infinity.jobs.removing import REMOVING_FILE, end_removal, remove_content
from infinity.storage.inventory import StoredFile, stored_files, unfinished_files

_MANIFEST = "manifest.parquet"
_NAMED = ("name", "content", "pixels", "phash", "url")
_SHORT_NAME = 5
_SILENT_S = 600.0
"""A draft that nobody writes to for longer was left by a writer that died."""

_COPIES = "facts, quarantines and copies"


@dataclass(frozen=True, kw_only=True, slots=True)
class Purged:
    """Result of a purge.

    Attributes:
        deleted: Number of deleted files or folders of each kind.
        still: URIs of manifests that hold a listed picture and do not come before the new version.
        sources: URIs of the sources, which nobody touched and which may hold the pictures still.
        writing: URIs of drafts that a writer may be at work on, and that may hold the pictures.
        readers: URIs of folders of jobs that read a deleted version: weights, samples and sheets made of the pictures.
    """

    deleted: dict[str, int]
    still: tuple[str, ...]
    sources: tuple[str, ...]
    readers: tuple[str, ...] = ()
    writing: tuple[str, ...] = ()


def purge(child: Manifest, listed: TakedownList) -> Purged:
    """Delete what versions before ``child`` hold of the listed pictures.

    Args:
        child: The version without them.

    Raises:
        StorageError: Something cannot be read or deleted.
    """
    _end_removals(child.root)
    found = _manifests(child.root)
    ancestors = _ancestors(child, found)
    for manifest in ancestors:
        listed = listed | named_as_found(manifest, listed)
    found_again = _traces(child.root, listed)
    holders = [each for each in ancestors if _holds(each, listed) or _tells(each, found_again.names)]
    listed = listed | TakedownList(sha256=_named(holders, listed) + tuple(sorted(found_again.sums)))
    gone = {manifest.uri for manifest in holders}
    words = words_of(holders, set(listed.sha256)) | {name for name in found_again.names if len(name) > _SHORT_NAME}
    remains = Remains.of(child.root, gone, words)
    needed = [manifest for manifest in found if manifest.uri not in gone]
    deleted: Counter[str] = Counter()
    deleted["shards"] = _delete_shards(child.root, needed, holders)
    for kind, uris in (
        (_COPIES, _measured(child.root, listed, found_again)),
        ("pages", remains.pages),
        ("stores of latents", remains.stores),
        ("downloads", _downloads(child.root, listed)),
        ("unfinished decisions", _decisions(child.root)),
    ):
        for uri in uris:
            storage.delete_tree(uri)
            deleted[kind] += 1
    unfinished, writing = _unfinished(child.root)
    for draft in unfinished:
        draft.discard()
        deleted["drafts"] += 1
    for manifest in reversed(holders):  # the oldest first: from the child on, the others are found again
        folder = storage.parent(manifest.uri)
        remove_content(folder)
        storage.delete_tree(folder)
        deleted["versions"] += 1
    for uri in found_again.facts:
        storage.delete_tree(uri)
        deleted[_COPIES] += 1
    others = (manifest for manifest in needed if manifest.uri != child.uri)
    still = tuple(manifest.uri for manifest in others if _holds(manifest, listed))
    sources = tuple(record.source for record in child.head.sources if record.source is not None)
    return Purged(deleted=dict(deleted), still=still, sources=sources, readers=remains.readers, writing=writing)


def collect_garbage(root: str, older_than_s: float, *, dry_run: bool = False) -> dict[str, int]:
    """Delete what no version below a root needs: shards, their indices, drafts and decisions of dead writers.

    Args:
        root: The folder that versions share.
        older_than_s: Younger files stay: a build may be about to name them.
        dry_run: Only count.

    Returns:
        How many files of each kind were, or would be, deleted.

    Raises:
        StorageError: Something cannot be read or deleted.
    """
    before = time.time() - older_than_s if older_than_s > 0 else math.inf
    indices, shards = unneeded_shards(root, stored_files(storage.join(root, SHARDS_FOLDER)), _manifests(root), before)
    kinds: dict[str, Sequence[StoredFile]] = {
        "indices": indices,
        "shards": shards,
        "drafts": unfinished_files(root),
        "unfinished decisions": stored_files(storage.join(root, DECISIONS_FOLDER)),
    }
    deleted: Counter[str] = Counter()
    for kind, files in kinds.items():
        for each in files:
            if kind == "indices" or each.changed < before:
                deleted[kind] += 1
                if not dry_run:
                    each.discard()
    return dict(deleted)


def unneeded_shards(
    root: str, files: Sequence[StoredFile], manifests: Iterable[Manifest], before: float
) -> tuple[list[StoredFile], list[StoredFile]]:
    """Return the indices of shards that no manifest names, which go first, and the shards.

    An index without its shard would be trusted.

    Args:
        files: All files below the folder of the shards.
        before: Time in seconds since 1970; shards that changed later stay, since a build may be about to name them.
    """
    named = {shard.path for manifest in manifests for shard in manifest.head.shards}
    tars = [each for each in files if each.uri.endswith(".tar") and each.changed < before]
    gone = {path: each for each in tars if (path := _below(each.uri, root)) not in named}
    indices = [each for each in files if each.uri.endswith(".json") and shard_of(each.uri) in gone]
    return indices, list(gone.values())


def _manifests(root: str) -> list[Manifest]:
    uris = [uri for uri in storage.list_files(root) if storage.name(uri) == _MANIFEST]
    return [Manifest.load(uri) for uri in uris if storage.parent(storage.parent(uri)) == root.rstrip("/")]


def _ancestors(child: Manifest, found: Sequence[Manifest]) -> list[Manifest]:
    """Return the versions before one, the youngest first, as far as they are still there."""
    by_digest = {manifest.digest: manifest for manifest in found}
    chain: list[Manifest] = []
    while (parent := by_digest.get((chain[-1] if chain else child).head.parent)) is not None:
        chain.append(parent)
    return chain


def _end_removals(root: str) -> None:
    """Delete what is left of versions whose deletion was cut off: the manifest may be gone and its rows still there."""
    for uri in storage.list_files(root):
        folder = storage.parent(uri)
        if storage.name(uri) == REMOVING_FILE and storage.parent(folder) == root.rstrip("/"):
            end_removal(folder)


def not_there(manifest: Manifest, listed: TakedownList) -> tuple[str, ...]:
    """Return the entries of a list that name no picture of a version, as lines of a list."""
    return entries_without_rows(_facts_of(manifest), listed)


def _facts_of(manifest: Manifest) -> Iterator[pa.Table]:
    """Yield what a takedown list can name of a version's rows, piece by piece."""
    for rows in manifest.groups(("source", "original_sha256", "pixels_sha256", "phash", "url", "sha256")):
        sums = (pa.array(map(bytes.fromhex, rows[name].to_pylist()), pa.binary(32)) for name in rows.column_names[1:3])
        named = (rows["source"], *sums, rows["phash"], rows["url"], rows["sha256"])
        yield pa.table(dict(zip((*_NAMED, "sha256"), named, strict=True)))


def _holds(manifest: Manifest, listed: TakedownList) -> bool:
    return any(names_any(facts, listed) for facts in _facts_of(manifest))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Traces:
    """What facts and quarantines tell of rows that a list itself names, whether a version holds them or not.

    Attributes:
        facts: URIs of their facts.
        sums: Checksums of their files and pixels.
    """

    facts: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sums: set[str] = field(default_factory=set)


def _traces(root: str, listed: TakedownList) -> _Traces:
    found = _Traces()
    slices = {_slice_of(uri) for uri in _parquet(root, QUARANTINE_FOLDER) if _in_quarantine(uri, listed, found)}
    for uri in _parquet(root, FACTS_FOLDER):
        table = facts_files.from_bytes(storage.read_bytes(uri), uri, _NAMED)
        rows = table.filter(pa.array(named_rows(table, listed)))
        found.names.update(rows["name"].to_pylist())
        sums = rows["content"].to_pylist() + rows["pixels"].to_pylist()
        found.sums.update(value.hex() for value in sums if value is not None)
        if rows.num_rows or _slice_of(uri) in slices:
            found.facts.append(uri)
    return found


def _in_quarantine(uri: str, listed: TakedownList, found: _Traces | None = None) -> bool:
    """Return whether a quarantine has a listed row; names of these join ``found``."""
    rows = quarantine.load(uri).select(["name", "sha256", "url"])
    named = rows.filter(pa.array(named_rows(_as_facts(rows["sha256"], rows["url"]), listed)))
    if found is not None:
        found.names.update(named["name"].to_pylist())
    return bool(named.num_rows)


def _as_facts(sums: pa.Array | pa.ChunkedArray, urls: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return what a list can name of rows of which only bytes and address are known."""
    unknown = (pa.nulls(len(urls), kind) for kind in (pa.string(), pa.binary(32), pa.uint64()))
    name, pixels, phash = unknown
    return pa.table(dict(zip(_NAMED, (name, sums, pixels, phash, urls), strict=True)))


def _slice_of(uri: str) -> tuple[str, str]:
    """Return the names of the folder and the file of a slice's facts or quarantine."""
    return storage.name(storage.parent(uri)), storage.name(uri)


def _tells(manifest: Manifest, names: Set[str]) -> bool:
    """Return whether a version tells of a row of these names that it dropped, perhaps with its picture and caption."""
    if not names:
        return False
    examples = (line for lines in manifest.head.examples.values() for line in lines)
    if any(line.startswith((f"{name} (", f"{name}: ")) for line in examples for name in names):
        return True
    uri = storage.join(storage.parent(manifest.uri), DROPPED_FILE)
    if not storage.exists(uri):
        return False
    with pq.ParquetFile(io.BytesIO(storage.read_bytes(uri))) as file:
        return any(not names.isdisjoint(rows["name"].to_pylist()) for rows in file.iter_batches(columns=["name"]))


def _named(holders: Sequence[Manifest], listed: TakedownList) -> tuple[str, ...]:
    """Return checksums of files and pixels of all listed pictures, by which their copies are found."""
    found: set[str] = set()
    for manifest in holders:
        pixels = frozenset[bytes]().union(*(listed_pixels(facts, listed) for facts in _facts_of(manifest)))
        for facts in _facts_of(manifest):
            taken = facts.filter(pc.is_in(facts["pixels"], pa.array(pixels, pa.binary(32))))
            found |= {value.hex() for name in ("content", "pixels") for value in taken[name].to_pylist()}
    return tuple(sorted(found))


def _delete_shards(root: str, needed: Sequence[Manifest], holders: Sequence[Manifest]) -> int:
    stays = {shard.path for manifest in needed for shard in manifest.head.shards}
    goes = {shard.path: manifest for manifest in holders for shard in manifest.head.shards if shard.path not in stays}
    indices = [uri for uri in storage.list_files(storage.join(root, INDEX_FOLDER)) if shard_of(uri) in goes]
    for uri in indices:
        storage.delete_tree(uri)
    for path, manifest in goes.items():
        storage.delete_tree(manifest.shard_uri(path))
    return len(goes)


def shard_of(index: str) -> str:
    """Return the shard that an index describes; empty if it is none."""
    try:
        return str(parse_json(storage.read_bytes(index), where=index)["info"]["path"])
    except (ValueError, KeyError, TypeError):
        return ""


def _measured(root: str, listed: TakedownList, later: _Traces) -> Iterator[str]:
    """Yield facts, quarantines, reduced pictures, scores and captions of slices that hold a listed picture.

    Facts of ``later`` are left out: they go when no version needs them to be found.
    """
    last = set(later.facts)
    names = set(map(_slice_of, later.facts))
    for uri in _parquet(root, FACTS_FOLDER):
        if names_any(facts_files.from_bytes(storage.read_bytes(uri), uri, _NAMED), listed):
            names.add(_slice_of(uri))
    for folder in (QUARANTINE_FOLDER, REPLAYS_FOLDER):
        yield from (uri for uri in _parquet(root, folder) if _in_quarantine(uri, listed))
    for folder in (QUARANTINE_FOLDER, REDUCED_FOLDER, SCORES_FOLDER, CAPTIONS_FOLDER, FACTS_FOLDER):
        for uri in storage.list_files(storage.join(root, folder)):
            stem = storage.name(uri).partition(".")[0] + ".parquet"
            of = storage.name(storage.parent(uri))
            if uri not in last and any(stem == name and of.startswith(slices) for slices, name in names):
                yield uri


def _unfinished(root: str) -> tuple[list[StoredFile], tuple[str, ...]]:
    """Return drafts and uploads that nobody has written to for ``_SILENT_S``, and the URIs of the others."""
    found = unfinished_files(root)
    silent = [each for each in found if time.time() - each.changed > _SILENT_S]
    return silent, tuple(each.uri for each in found if each not in silent)


def _decisions(root: str) -> Iterator[str]:
    """Yield the folder of decisions on the way, where there is one: it may hold any row, and is made again."""
    uri = storage.join(root, DECISIONS_FOLDER)
    if storage.list_files(uri):
        yield uri


def _parquet(root: str, folder: str) -> Iterator[str]:
    return (uri for uri in storage.list_files(storage.join(root, folder)) if uri.endswith(".parquet"))


def _downloads(root: str, listed: TakedownList) -> Iterator[str]:
    """Yield folders of downloads that hold a listed picture: they are asked for again when they are needed."""

    def holds(uri: str) -> bool:
        with pq.ParquetFile(io.BytesIO(storage.read_bytes(uri))) as file:
            for batch in file.iter_batches(16, columns=["url", "image"]):
                sums = [hashlib.sha256(data or b"").digest() for data in batch["image"].to_pylist()]
                if names_any(_as_facts(pa.array(sums, pa.binary(32)), batch["url"]), listed):
                    return True
        return False

    yield from _folders(root, holds)


def _folders(root: str, holds: Callable[[str], bool]) -> Iterator[str]:
    folders: dict[str, list[str]] = {}
    for uri in storage.list_files(root):
        below = _below(uri, root)
        if below.startswith("download-") and uri.endswith(".parquet"):
            folders.setdefault(storage.join(root, below.split("/")[0]), []).append(uri)
    return (folder for folder, uris in folders.items() if any(map(holds, uris)))


def _below(uri: str, root: str) -> str:
    return uri[len(root.rstrip("/")) + 1 :]
