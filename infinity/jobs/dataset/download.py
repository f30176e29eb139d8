"""Download the pictures of an address list: Parquet files of bytes, a reason for every address without a picture."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from infinity import storage
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.download.slices import SliceCounts, download_slice
from infinity.data.sources.opening import URL_LIST, fingerprint, open_source
from infinity.data.sources.samples import SourceError
from infinity.jobs.cluster.connection import connect, num_cpus
from infinity.jobs.cluster.fan_out import fan_out
from infinity.jobs.ownership import Tenure, once
from infinity.jobs.progress import Progress, ProgressSink, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit

PICTURES_FOLDER = "pictures"
ROWS_PER_SLICE = 512
"""A slow host holds up its slice only; a slice is one file, and what an interrupted download loses at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadSpec(JobSpec):
    """List and settings of a download.

    Attributes:
        source: URI of a .parquet, .csv, .tsv or .jsonl file with addresses and captions, or a folder of those.
        fingerprint: ``fingerprint(source)`` when the job was planned; another list is another download.
        columns: Names of the list's columns, where guessing is not enough.
        download: Limits, and what is refused.
        roots: URIs of further folders that links in the source may lead to.
    """

    kind: ClassVar[str] = "download"
    later: ClassVar[frozenset[str]] = frozenset({"roots"})

    source: str
    fingerprint: str = ""
    columns: SourceColumns = field(default_factory=SourceColumns)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    roots: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadReport(JobReport):
    """Result of a download; read = fetched + the sum of failed.

    Attributes:
        pictures: URI of the folder of Parquet files, a source for the data stage.
        read: Rows of the list.
        failed: Rows without a picture, by reason.
        seconds: Time the job took.
    """

    pictures: str
    read: int
    fetched: int
    failed: dict[str, int]
    num_bytes: int
    seconds: float


def run(spec: DownloadSpec, *, progress: ProgressSink = silent) -> DownloadReport:
    """Download the pictures; what an interrupted job has finished is not fetched again.

    Raises:
        SourceError: There is no list of addresses, or it changed since the job was planned.
        StorageError: The list or the output cannot be reached, or no space is left.
    """
    return once(spec, DownloadReport, lambda tenure: _run(spec, tenure), progress)


def _run(spec: DownloadSpec, tenure: Tenure) -> DownloadReport:
    started = time.monotonic()
    tenure.progress(Progress(0.0, "looking at the list"))
    uri = storage.absolute(spec.source)
    source = open_source(uri, rows_per_slice=ROWS_PER_SLICE, columns=spec.columns, roots=spec.roots)
    if source.kind != URL_LIST:
        raise SourceError(
            f"{spec.source}: expected a list of addresses with captions, found a source of kind {source.kind}"
        )
    if spec.fingerprint and (found := fingerprint(uri, spec.roots)) != spec.fingerprint:
        raise SourceError(
            f"{spec.source}: expected the fingerprint {spec.fingerprint}, found {found}: the list changed since the "
            "job was planned; plan it again"
        )
    pictures = storage.absolute(storage.join(begin(spec), PICTURES_FOLDER))
    total = len(source.slices)

    def on_done(done: int) -> None:
        tenure.progress(Progress(done / total, f"downloaded {done:,} of {total:,} slices"))

    with connect():
        at_once, limits = _shared(spec.download, min(total, num_cpus()))
        calls = [
            (piece, storage.join(pictures, f"{index:06d}.parquet"), limits) for index, piece in enumerate(source.slices)
        ]
        counts = fan_out(download_slice, calls, on_done, at_once=at_once)
    return commit(spec, _report(pictures, counts, time.monotonic() - started))


def _shared(config: DownloadConfig, num_workers: int) -> tuple[int, DownloadConfig]:
    """Return how many slices run at once, and the limits of each, so that together they keep those of the job."""
    at_once = max(1, min(config.connections, config.per_host, num_workers))
    limits = config.replace(connections=config.connections // at_once, per_host=config.per_host // at_once)
    return at_once, limits


def _report(pictures: str, counts: list[SliceCounts], seconds: float) -> DownloadReport:
    failed: Counter[str] = Counter()
    for part in counts:
        failed.update(part.failed)
    read = sum(part.read for part in counts)
    return DownloadReport(
        pictures=pictures,
        read=read,
        fetched=read - failed.total(),
        failed=dict(sorted(failed.items())),
        num_bytes=sum(part.num_bytes for part in counts),
        seconds=seconds,
    )
