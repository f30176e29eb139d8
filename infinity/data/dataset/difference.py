"""What changed between two versions of a data set, from their manifests alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest

EXAMPLES = 20
"""Number of rows of each kind that are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change(Config):
    """One setting: its name with dots, and its value before and after as JSON; None where it was not there."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference(Config):
    """Two versions side by side.

    Attributes:
        is_child: Whether the second was made from the first.
        added: Number of rows only the second has, by picture and captions.
        removed: Number of rows only the first has.
        moved: Number of rows that lie in another shard.
        resplit: Number of rows that belong to another split.
        examples: Names of a few pictures for each of "added", "removed" and "moved".
        shards_kept: Shards of both.
        shards_new: Shards of the second only.
        shards_gone: Shards of the first only.
        bytes_new: Bytes of ``shards_new``.
        counts: Counts that differ, before and after.
        settings: Settings that differ.
    """

    is_child: bool
    added: int
    removed: int
    moved: int
    resplit: int
    examples: dict[str, tuple[str, ...]]
    shards_kept: int
    shards_new: int
    shards_gone: int
    bytes_new: int
    counts: tuple[Change, ...]
    settings: tuple[Change, ...]


def compare(first: Manifest, second: Manifest) -> Difference:
    """Return the difference from the first to the second."""
    before, after = _rows(first), _rows(second)
    added = [key for key in after if key not in before]
    removed = [key for key in before if key not in after]
    both = [key for key in before if key in after]
    moved = [key for key in both if before[key][0] != after[key][0]]
    old, new = ({shard.sha256: shard for shard in m.head.shards} for m in (first, second))
    return Difference(
        is_child=second.head.parent == first.digest,
        added=len(added),
        removed=len(removed),
        moved=len(moved),
        resplit=sum(before[key][1] != after[key][1] for key in both),
        examples={
            "added": tuple(after[key][2] for key in added[:EXAMPLES]),
            "removed": tuple(before[key][2] for key in removed[:EXAMPLES]),
            "moved": tuple(after[key][2] for key in moved[:EXAMPLES]),
        },
        shards_kept=len(old.keys() & new.keys()),
        shards_new=len(new.keys() - old.keys()),
        shards_gone=len(old.keys() - new.keys()),
        bytes_new=sum(new[name].num_bytes for name in new.keys() - old.keys()),
        counts=_changes(first.head.counts, second.head.counts),
        settings=_changes(_settings(first), _settings(second)),
    )


def _rows(manifest: Manifest) -> dict[str, tuple[str, str, str]]:
    """Return the shard's checksum, the split and the name of every row by the row's key."""
    checksums = {shard.path: shard.sha256 for shard in manifest.head.shards}
    columns = (manifest.table[name].to_pylist() for name in ("key", "shard", "split", "source"))
    return {key: (checksums.get(shard, shard), split, name) for key, shard, split, name in zip(*columns, strict=True)}


def _settings(manifest: Manifest) -> dict[str, Any]:
    head = manifest.head
    sources = [record.to_json() for record in head.sources]
    return {**head.spec, "takedown": head.takedown.to_json(), "sources": sources, "code_version": head.code_version}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    return tuple(
        Change(name=name, before=old.get(name), after=new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that is no JSON object, with its path; lists of objects are opened, others are one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    else:
        yield name, value
