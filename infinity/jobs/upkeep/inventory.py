"""The folders of jobs and runs below a root, from one listing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from infinity import storage
from infinity.data.dataset.shards import SHARDS_FOLDER
from infinity.jobs.dataset.facts import FACTS_FOLDER, QUARANTINE_FOLDER, REDUCED_FOLDER
from infinity.jobs.registry import KINDS
from infinity.jobs.removing import REMOVING_FILE
from infinity.jobs.spec import REPORT_FILE, SPEC_FILE
from infinity.storage.inventory import StoredFile, stored_files

PLAN_FILE, MODELS_FILE, REGISTRY_FOLDER = "run.json", "models.json", "registry"
BULK_FOLDERS = (FACTS_FOLDER, QUARANTINE_FOLDER, REDUCED_FOLDER, SHARDS_FOLDER, "store")
"""Folders of a run that hold pictures and what was measured of them; no file there names a stage."""

STAGE_NAME = re.compile(rf"(?:{'|'.join(KINDS)})-[0-9a-f]{{16}}(?![0-9a-f])")
"""Name of a stage's folder: its kind and the digest of its spec."""


@dataclass(frozen=True)
class StageFolder:
    """The folder of one job.

    Attributes:
        uri: Place of the folder.
        run: Folder of the run that it lies in; None where no ``run.json`` lies beside it.
        files: All its files but the lease.
    """

    uri: str
    run: str | None
    files: tuple[StoredFile, ...]

    @property
    def name(self) -> str:
        """Kind and digest, which its spec gives."""
        return storage.name(self.uri)

    @property
    def kind(self) -> str:
        """Kind of the job, such as transformer."""
        return self.name.rpartition("-")[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.num_bytes for file in self.files)

    @property
    def changed(self) -> float:
        """Time of the last change of a file, in seconds since 1970."""
        return max(file.changed for file in self.files)

    @cached_property
    def paths(self) -> dict[str, StoredFile]:
        """Files by their path in the folder."""
        return {file.uri[len(self.uri) + 1 :]: file for file in self.files}

    @property
    def is_done(self) -> bool:
        """Whether the job has ended."""
        return REPORT_FILE in self.paths

    @property
    def is_half_removed(self) -> bool:
        """Whether a removal of the folder was cut off."""
        return REMOVING_FILE in self.paths and not self.is_done

    def documents(self) -> Iterator[str]:
        """Yield URIs of the files that name other jobs: spec and report."""
        yield from (self.paths[name].uri for name in (SPEC_FILE, REPORT_FILE) if name in self.paths)


@dataclass(frozen=True)
class Inventory:
    """What lies below a root.

    Attributes:
        root: URI of the root.
        runs: Folders with a ``run.json``, sorted.
        stages: Folders of jobs, sorted by place.
        documents: URIs of JSON files that belong to no job: plans, records of champions, results of studies.
    """

    root: str
    files: tuple[StoredFile, ...]
    runs: tuple[str, ...]
    stages: tuple[StageFolder, ...]
    documents: tuple[str, ...]


def take_inventory(root: str) -> Inventory:
    """List a root of runs.

    Raises:
        ValueError: The root is itself a run, beside which others may lie that need its files.
        StorageError: The root cannot be listed.
    """
    root = storage.absolute(root).rstrip("/")
    files = stored_files(root)
    runs = tuple(sorted(storage.parent(file.uri) for file in files if storage.name(file.uri) == PLAN_FILE))
    if root in runs:
        raise ValueError(
            f"{root}: expected the folder that holds all runs, found one run ({PLAN_FILE} lies in it); other runs may "
            f"need its files, so give {storage.parent(root)}"
        )
    of_stage: dict[str, list[StoredFile]] = defaultdict(list)
    documents = []
    for file in files:
        parts = file.uri[len(root) + 1 :].split("/")
        place = next((i for i, part in enumerate(parts[:-1]) if STAGE_NAME.fullmatch(part)), None)
        if place is not None:
            of_stage["/".join([root, *parts[: place + 1]])].append(file)
        elif parts[-1].endswith(".json") and not set(parts[:-1]) & set(BULK_FOLDERS):
            documents.append(file.uri)
    stages = tuple(
        StageFolder(uri, run=beside if (beside := storage.parent(uri)) in runs else None, files=tuple(found))
        for uri, found in sorted(of_stage.items())
    )
    return Inventory(root, files, runs, stages, tuple(documents))
