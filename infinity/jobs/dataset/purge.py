"""Bytes that must be gone: what a takedown left in older versions, facts, quarantines and downloads of a data set.

A takedown makes a new version; the old ones still hold the picture. ``purge`` deletes those that came before and hold
it, and every file beside them that does; what the new version or another one needs stays. ``collect_garbage`` deletes
what no version needs. Both delete shards first and manifests last, the oldest first, so that after a kill the same call
finds what is left; a version that was half deleted is marked, and goes first then. A row group of a manifest, or the
facts of one slice, are in memory at a time, besides the checksums of the listed pictures.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity import storage
from infinity.config import parse_json
from infinity.data.curation import facts as facts_files
from infinity.data.curation.takedown import TakedownList, listed_pixels, names_any
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.shards import INDEX_FOLDER, SHARDS_FOLDER
from infinity.data.sources import quarantine
from infinity.jobs.dataset.facts import FACTS_FOLDER, QUARANTINE_FOLDER, REDUCED_FOLDER
from infinity.jobs.dataset.large.partitioned import DECISIONS_FOLDER
from infinity.jobs.dataset.replay import REPLAYS_FOLDER
from infinity.jobs.dataset.scoring import CAPTIONS_FOLDER, SCORES_FOLDER
from infinity.jobs.dataset.sources import named_as_found
from infinity.jobs.removing import REMOVING_FILE, end_removal, remove_content

_MANIFEST = "manifest.parquet"
_NAMED = ("name", "content", "pixels", "phash", "url")


@dataclass(frozen=True, kw_only=True, slots=True)
class Purged:
    """Result of a purge.

    Attributes:
        deleted: Number of deleted files or folders of each kind.
        still: URIs of manifests that hold a listed picture and do not come before the new version.
        sources: URIs of the sources, which nobody touched and which may hold the pictures still.
    """

    deleted: dict[str, int]
    still: tuple[str, ...]
    sources: tuple[str, ...]


def purge(child: Manifest, listed: TakedownList) -> Purged:
    """Delete what versions before ``child`` hold of the listed pictures.

    Args:
        child: The version without them.
        listed: The pictures.

    Raises:
        StorageError: Something cannot be read or deleted.
    """
    _end_removals(child.root)
    found = _manifests(child.root)
    ancestors = _ancestors(child, found)
    for manifest in ancestors:
        listed = listed | named_as_found(manifest, listed)
    holders = [manifest for manifest in ancestors if _holds(manifest, listed)]
    listed = listed | TakedownList(sha256=_named(holders, listed))
    gone = {manifest.uri for manifest in holders}
    needed = [manifest for manifest in found if manifest.uri not in gone]
    deleted: Counter[str] = Counter()
    deleted["shards"] = _delete_shards(child.root, needed, holders)
    for kind, uris in (
        ("facts, quarantines and copies", _measured(child.root, listed)),
        ("downloads", _downloads(child.root, listed)),
        ("unfinished decisions", _decisions(child.root)),
    ):
        for uri in uris:
            storage.delete_tree(uri)
            deleted[kind] += 1
    for manifest in reversed(holders):  # the oldest first: from the child on, the others are found again
        folder = storage.parent(manifest.uri)
        remove_content(folder)
        storage.delete_tree(folder)
        deleted["versions"] += 1
    others = (manifest for manifest in needed if manifest.uri != child.uri)
    still = tuple(manifest.uri for manifest in others if _holds(manifest, listed))
    sources = tuple(record.source for record in child.head.sources if record.source is not None)
    return Purged(deleted=dict(deleted), still=still, sources=sources)


def collect_garbage(root: str, older_than_s: float, *, dry_run: bool = False) -> dict[str, int]:
    """Delete what no version below a root needs: shards, their indices, drafts and decisions of dead writers.

    Args:
        root: The folder that versions share.
        older_than_s: Younger files stay: a build may be about to name them. On S3, which tells no times here, only 0
            deletes anything.
        dry_run: Only count.

    Returns:
        How many files of each kind were, or would be, deleted.

    Raises:
        StorageError: Something cannot be read or deleted.
    """
    now, deleted = time.time(), Counter[str]()
    named = {shard.path for manifest in _manifests(root) for shard in manifest.head.shards}
    infos = {info.uri: info for info in storage.list_details(storage.join(root, SHARDS_FOLDER))}
    shards = [uri for uri in infos if uri.endswith(".tar") and _below(uri, root) not in named]
    gone = {uri for uri in shards if _is_old(infos[uri].version, now, older_than_s)}
    indices = [uri for uri in infos if uri.endswith(".json") and storage.join(root, shard_of(uri)) in gone]
    drafts = [uri for uri, version in storage.list_drafts(root) if _is_old(version, now, older_than_s)]
    unfinished = storage.list_details(storage.join(root, DECISIONS_FOLDER))
    decisions = [info.uri for info in unfinished if _is_old(info.version, now, older_than_s)]
    for kind, uris in (
        ("indices", indices),
        ("shards", sorted(gone)),
        ("drafts", drafts),
        ("unfinished decisions", decisions),
    ):
        for uri in uris:
            deleted[kind] += 1
            if not dry_run:
                storage.delete_tree(uri)
    return dict(deleted)


def _is_old(version: str, now: float, older_than_s: float) -> bool:
    return older_than_s <= 0 or (version.isdigit() and now - int(version) / 1e9 > older_than_s)


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


def _facts_of(manifest: Manifest) -> Iterator[pa.Table]:
    """Yield what a takedown list can name of a version's rows, piece by piece."""
    for rows in manifest.groups(("source", "original_sha256", "pixels_sha256", "phash", "url")):
        sums = (pa.array(map(bytes.fromhex, rows[name].to_pylist()), pa.binary(32)) for name in rows.column_names[1:3])
        yield pa.table(
            dict(zip(_NAMED, (rows["source"], *sums, rows["phash"], rows["url"]), strict=True)),
        )


def _holds(manifest: Manifest, listed: TakedownList) -> bool:
    return any(names_any(facts, listed) for facts in _facts_of(manifest))


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


def _measured(root: str, listed: TakedownList) -> Iterator[str]:
    """Yield facts, quarantines, reduced pictures, scores and captions of slices that hold a listed picture."""
    names: set[tuple[str, str]] = set()
    for uri in _parquet(root, FACTS_FOLDER):
        table = facts_files.from_bytes(storage.read_bytes(uri), uri)
        if names_any(table, listed):
            names.add((storage.name(storage.parent(uri)), storage.name(uri)))
    wanted = set(listed.sha256)
    for folder in (QUARANTINE_FOLDER, REPLAYS_FOLDER):
        for uri in _parquet(root, folder):
            rows = quarantine.load(uri).select(["sha256", "url"]).to_pylist()
            if any(row["sha256"].hex() in wanted or row["url"] in listed.urls for row in rows):
                yield uri
    for folder in (QUARANTINE_FOLDER, REDUCED_FOLDER, SCORES_FOLDER, CAPTIONS_FOLDER, FACTS_FOLDER):
        for uri in storage.list_files(storage.join(root, folder)):
            stem = storage.name(uri).partition(".")[0] + ".parquet"
            of = storage.name(storage.parent(uri))
            if any(stem == name and of.startswith(slices) for slices, name in names):
                yield uri


def _decisions(root: str) -> Iterator[str]:
    """Yield the folder of decisions on the way, where there is one: it may hold any row, and is made again."""
    uri = storage.join(root, DECISIONS_FOLDER)
    if storage.list_files(uri):
        yield uri


def _parquet(root: str, folder: str) -> Iterator[str]:
    return (uri for uri in storage.list_files(storage.join(root, folder)) if uri.endswith(".parquet"))


def _downloads(root: str, listed: TakedownList) -> Iterator[str]:
    """Yield folders of downloads that hold a listed picture: they are asked for again when they are needed."""
    wanted = set(listed.sha256)

    def holds(uri: str) -> bool:
        with pq.ParquetFile(io.BytesIO(storage.read_bytes(uri))) as file:
            for batch in file.iter_batches(16, columns=["url", "image"]):
                for row in batch.to_pylist():
                    digest = hashlib.sha256(row["image"] or b"").hexdigest()
                    if row["url"] in listed.urls or digest in wanted:
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
