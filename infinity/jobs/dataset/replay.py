"""Quarantined rows once more: collected from a data set, repaired by hand or not, and made into a child version."""

from __future__ import annotations

from collections import Counter

from infinity import storage
from infinity.data.curation.storing import StoringConfig
from infinity.data.dataset.manifest import Manifest
from infinity.data.sources import opening as sources
from infinity.data.sources import quarantine
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.samples import SourceError
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.dataset.facts import FACTS_FOLDER, QUARANTINE_FOLDER, open_record
from infinity.jobs.dataset.sources import recorded_sources
from infinity.jobs.progress import silent

REPLAYS_FOLDER = "replays"


def quarantined(manifest: Manifest) -> tuple[str, ...]:
    """Return URIs of the quarantine files of a data set's sources, in the order of its rows.

    Raises:
        DatasetError: A source is not what it was when the data set was built.
        SourceError: A source is gone.
        StorageError: A source or the quarantine cannot be reached.
    """
    max_pixels = int(manifest.head.spec["filters"]["max_pixels"])
    side_px = manifest.head.spec.get("storing", StoringConfig().to_json())["side_px"]
    files: list[str] = []
    for record in recorded_sources(manifest):
        opened = open_record(record, manifest.root, silent)
        now = opened.folder(max_pixels, side_px)
        folders = (now, *opened.earlier_folders(max_pixels, side_px))  # it may have been built by an earlier reading
        there = (name for name in folders if storage.exists(storage.join(manifest.root, FACTS_FOLDER, name)))
        folder = next(there, now)
        files += quarantine.files_of(storage.join(manifest.root, QUARANTINE_FOLDER, folder))
    return tuple(files)


def roots_of(manifest: Manifest) -> tuple[str, ...]:
    """Return folders from which quarantined pictures of a data set may be read once more: those of its sources."""
    roots: dict[str, None] = {}
    for record in recorded_sources(manifest):
        if record.source is not None:
            roots |= dict.fromkeys(sources.roots_of(record.source, record.roots))
    return tuple(roots)


def reasons_of(manifest: Manifest) -> dict[str, int]:
    """Return the number of quarantined rows by reason, the most frequent first."""
    counts: Counter[str] = Counter()
    for file in quarantined(manifest):
        counts.update(quarantine.load(file)["reason"].to_pylist())
    return dict(counts.most_common())


def collect(manifest: Manifest) -> str:
    """Put the quarantine of one version into a folder of its own, which is a source, and return the folder's URI.

    Raises:
        SourceError: Nothing is in quarantine.
        StorageError: The quarantine cannot be read or the folder not be written.
    """
    files = quarantined(manifest)
    if not files:
        raise SourceError(f"{manifest.uri}: found nothing in quarantine")
    folder = storage.join(manifest.root, REPLAYS_FOLDER, manifest.digest[:16])
    for number, file in enumerate(files):
        storage.put_once(storage.join(folder, f"{number:06d}.parquet"), storage.read_bytes(file))
    return folder


def replay_spec(manifest: Manifest, source: str | None = None) -> BuildDatasetSpec:
    """Return the job that makes a child version of a data set with its quarantined rows put through again.

    The rows that are in quarantine stay there, and in the counts: the ledger says what became of the first attempt and
    of the second.

    Args:
        source: URI of a folder in which they were repaired (see ``quarantine.export``); None replays them as they are,
            which helps where their files were missing or out of reach and no longer are.

    Raises:
        SourceError: Nothing is in quarantine, or the folder is no source.
        StorageError: Something cannot be reached.
    """
    uri = storage.absolute(source) if source is not None else collect(manifest)
    settings = dict(manifest.head.spec) | {"output": manifest.root, "parent": manifest.uri, "scenes": None}
    roots = () if source is not None else roots_of(manifest)
    settings |= {"source": uri, "fingerprint": sources.fingerprint(uri, roots), "roots": list(roots)}
    settings |= {"columns": SourceColumns().to_json()}
    return BuildDatasetSpec.from_json(settings, where=manifest.uri)
