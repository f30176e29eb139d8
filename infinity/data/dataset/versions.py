"""Named data sets: a row of versions, each a manifest, numbered from 1; of two writers of one number one wins.

``<root>/versions/<name>/000001.json`` names the manifest of version 1. A number is written once and never changed, so
readers may keep what they read. Shards and manifests that no version and no job's folder names any more are garbage:
nobody reads them, since readers follow manifests only, and whoever knows all manifests may delete the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from infinity import storage
from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.storage.json_files import read_config

VERSIONS_FOLDER = "versions"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class VersionConflictError(ValueError):
    """Somebody else made the next version first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Version(Config):
    """One version of a named data set.

    Attributes:
        number: Number of the version, from 1 on.
        manifest: Place of the manifest, below the root.
        sha256: Digest of the manifest: sha256 of its file.
        parent: Digest of the version before; empty for the first.
    """

    number: int
    manifest: str
    sha256: str
    parent: str


def check_name(name: str) -> None:
    """Require that a name can be the name of a folder.

    Raises:
        ValueError: The name cannot be the name of a folder.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name of a data set: expected small letters, digits, '.', '_' and '-', got {name!r}")


def versions(root: str, name: str) -> tuple[Version, ...]:
    """Return all versions, the first one first.

    Raises:
        ConfigError: A file is no version.
        StorageError: The versions cannot be read.
    """
    check_name(name)
    files = storage.list_files(storage.join(root, VERSIONS_FOLDER, name))
    return tuple(read_config(uri, Version, remedy="restore the file; a version is never changed") for uri in files)


def load_version(root: str, name: str, number: int | None = None) -> Manifest:
    """Return the manifest of a version, or of the latest.

    Raises:
        ValueError: There is no such version.
        ManifestError: The manifest is not the one that was published.
        StorageError: The manifest cannot be read.
    """
    found = {version.number: version for version in versions(root, name)}
    wanted = number or max(found, default=0)
    if wanted not in found:
        raise ValueError(f"{root}: expected version {wanted or 1} of {name!r}, found {sorted(found) or 'none'}")
    manifest = Manifest.load(storage.join(root, found[wanted].manifest))
    if manifest.digest != found[wanted].sha256:
        raise VersionConflictError(
            f"{manifest.uri}: expected the digest {found[wanted].sha256}, found {manifest.digest}: the manifest was "
            "changed after it was published"
        )
    return manifest


def check_next(root: str, name: str, parent: Manifest | None) -> None:
    """Require that a version made from ``parent`` would be the next one: the check of ``publish``, before the work.

    Raises:
        VersionConflictError: The latest version is another one.
    """
    before, expected = versions(root, name), parent.digest if parent else ""
    if before and expected not in (before[-1].sha256, before[-1].parent):  # the latter: it may be ours already
        raise VersionConflictError(_conflict(name, before[-1], expected))


def publish(root: str, name: str, manifest: Manifest) -> Version:
    """Make a manifest the next version; once, however often it is tried.

    Raises:
        VersionConflictError: The latest version is not the manifest's parent, or somebody else was faster.
        StorageError: The version cannot be written.
    """
    before = versions(root, name)
    if before and before[-1].sha256 == manifest.digest:
        return before[-1]
    if before and before[-1].sha256 != manifest.head.parent:
        raise VersionConflictError(_conflict(name, before[-1], manifest.head.parent))
    version = Version(
        number=len(before) + 1,
        manifest=manifest.uri[len(root.rstrip("/")) + 1 :],
        sha256=manifest.digest,
        parent=manifest.head.parent,
    )
    uri = storage.join(root, VERSIONS_FOLDER, name, f"{version.number:06d}.json")
    try:
        storage.put_once(uri, version.dump().encode())
    except storage.FileAlreadyThereError as error:
        raise VersionConflictError(
            f"version {version.number} of {name!r} was made by somebody else meanwhile; build again with that one as "
            "the parent"
        ) from error
    return version


def _conflict(name: str, latest: Version, parent: str) -> str:
    return (
        f"data set {name!r}: expected its latest version to be the parent ({parent[:16] or 'none'}), found version "
        f"{latest.number} ({latest.sha256[:16]}); build again with that one as the parent"
    )
