"""What goes into a job and what comes out: frozen, JSON, found again by content.

This module imports neither torch nor ray, so that asking "is it done?" costs nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, TypeVar

from infinity import storage
from infinity.config import Config, digest_of
from infinity.ranges import NotBlank
from infinity.storage.json_files import read_config

SPEC_FILE = "spec.json"
REPORT_FILE = "report.json"
DAMAGED_REPORT = "restore the file, or delete it and start the same job again, which finds what is done"
"""Advice of errors about a report that cannot be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec(Config):
    """What a job shall do.

    Attributes:
        output: URI under which the job makes its own folder; not part of the job's identity.
        kind: Class constant, the job's name in folder names and spec files.
        elsewhere: Class constant, the fields that say where and by whom the work is done, not what: with another number
            of workers a job finds its own folder again and goes on there.
    """

    kind: ClassVar[str] = ""
    elsewhere: ClassVar[frozenset[str]] = frozenset({"output", "workers"})

    output: Annotated[str, NotBlank("a path or URI")]

    def digest(self) -> str:
        """Return 16 hexadecimal digits over the kind and every field that may change a result (docs/decisions/0001)."""
        fields = {name: value for name, value in self.identity().items() if name not in self.elsewhere}
        return digest_of({"kind": self.kind, "spec": fields})

    @property
    def folder(self) -> str:
        """URI of the folder that belongs to this spec alone: a repeated or restarted job finds itself there."""
        return storage.join(self.output, f"{self.kind}-{self.digest()}")

    def located(self) -> Self:
        """Return the spec whose folder holds the job: itself, unless its inputs changed and kept their names."""
        return self

    def to_file(self) -> dict[str, Any]:
        """Return what a spec file holds: the kind beside the fields."""
        return {"kind": self.kind, "spec": self.to_json()}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobReport(Config):
    """What a job did; it names every output by URI."""


R = TypeVar("R", bound=JobReport)


def begin(spec: JobSpec) -> str:
    """Write ``spec.json`` into the job's folder and return the folder's URI."""
    text = json.dumps(spec.to_file(), indent=2, ensure_ascii=False) + "\n"
    storage.write_text(storage.join(spec.folder, SPEC_FILE), text)
    return spec.folder


def report_uri(spec: JobSpec) -> str:
    """Return where the report of a finished spec lies."""
    return storage.join(spec.folder, REPORT_FILE)


def is_done(spec: JobSpec) -> bool:
    """Return whether the report is there; it is written last, so everything it names is there too.

    Raises:
        StorageError: The place cannot be asked (no such bucket, refused credentials).
    """
    return storage.exists(report_uri(spec))


def load_report(spec: JobSpec, report_type: type[R]) -> R:
    """Return the report of a finished spec.

    Raises:
        ConfigError: The file is not a report of this type.
        StorageError: The report does not exist.
    """
    return read_config(report_uri(spec), report_type, remedy=DAMAGED_REPORT)


def commit(spec: JobSpec, report: R) -> R:
    """Write ``report.json``, the mark of a finished job, and hand the report back.

    Raises:
        FileAlreadyThereError: Another process has finished the job.
        LeaseLostError: Another process owns the job by now.
        StorageError: The report cannot be written.
    """
    try:
        storage.put_once(report_uri(spec), report.dump().encode())
    except storage.FileAlreadyThereError as error:
        raise storage.FileAlreadyThereError(
            f"{report_uri(spec)}: another process has finished this job meanwhile; start again to read its report"
        ) from error
    return report
