"""Where the rows of a version come from, and which pictures must go: its own sources and those of its parent."""

from __future__ import annotations

from infinity import storage
from infinity.data.curation.storing import StoringConfig
from infinity.data.curation.takedown import TakedownList, digest_of_entry
from infinity.data.dataset.manifest import Manifest, ManifestError
from infinity.data.dataset.manifest_head import SourceRecord
from infinity.jobs.dataset.spec import BuildDatasetSpec


def only_takes_down(spec: BuildDatasetSpec, parent: Manifest | None) -> bool:
    """Return whether the parent's rows can stay without another look at their facts."""
    if parent is None or spec.source is not None or spec.scenes is not None:
        return False
    return all(
        parent.head.spec.get(name) == spec.to_json()[name] for name in ("filters", "captions", "scorers", "captioner")
    ) and stores_as(parent, spec)


def recorded_sources(manifest: Manifest) -> tuple[SourceRecord, ...]:
    """Return the sources that a manifest names; all have the fingerprint with which they were read.

    Without one, a manifest that somebody else wrote could name any folder of this machine.

    Raises:
        ManifestError: A source has no fingerprint.
    """
    for record in manifest.head.sources:
        if record.source is not None and not record.fingerprint:
            raise ManifestError(
                f"{manifest.uri}: expected the fingerprint of every source, found none of {record.source}; whoever "
                "wrote this manifest was not this program, so its sources are not opened"
            )
    return manifest.head.sources


def sources_of(spec: BuildDatasetSpec, parent: Manifest | None) -> tuple[SourceRecord, ...]:
    """Return the parent's sources, then the spec's own, which takes the place of an earlier state of itself."""
    before = recorded_sources(parent) if parent else ()
    if spec.source is None and spec.scenes is None:
        return before
    uri = None if spec.source is None else storage.absolute(spec.source)
    own = SourceRecord(
        source=uri,
        scenes=spec.scenes,
        fingerprint=spec.fingerprint,
        captions=spec.captions,
        columns=spec.columns,
        download=spec.download,
        roots=tuple(map(storage.absolute, spec.roots)),
    )
    same = [(own.source, own.scenes) == (each.source, each.scenes) for each in before]
    if any(same):
        return tuple(own if is_same else each for is_same, each in zip(same, before, strict=True))
    return (*before, own)


def takedown_of(spec: BuildDatasetSpec, parent: Manifest | None) -> TakedownList:
    """Return the lists of spec and parent; pictures named by their checksum in a shard are named as found, too."""
    if parent is None:
        return spec.takedown
    return spec.takedown | named_as_found(parent, spec.takedown) | parent.head.takedown


def named_as_found(manifest: Manifest, listed: TakedownList) -> TakedownList:
    """Return the checksums, as found, of pictures that a list names by their checksum in a shard of a version."""
    wanted, hidden = set(listed.sha256), set(listed.digests)
    found, also = list[str](), list[str]()
    if wanted or hidden:
        for rows in manifest.groups(("sha256", "original_sha256")):
            for stored, original in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                if stored in wanted:
                    found.append(original)
                if hidden and digest_of_entry("sha256", stored) in hidden:
                    also.append(digest_of_entry("sha256", original))
    return TakedownList(sha256=tuple(found), digests=tuple(also))


def stores_as(parent: Manifest | None, spec: BuildDatasetSpec) -> bool:
    """Return whether the parent's pictures, if there is one, are stored as the spec asks."""
    return parent is None or parent.head.spec.get("storing", StoringConfig().to_json()) == spec.storing.to_json()
