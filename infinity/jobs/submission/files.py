"""Files by which a submitted job and those who watch it talk, in the folder ``job`` of the stage."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from infinity import storage
from infinity.config import ConfigError, parse_json
from infinity.jobs.progress import Progress
from infinity.jobs.spec import JobSpec

FOLDER = "job"
PROGRESS_FILE, WATCH_FILE, END_FILE, STOP_FILE = "progress.json", "watched.json", "end.json", "stopped.json"

NOT_SEEN, MAY_PASS = 3, 4
"""Exit codes of a job that does not find its submission, and of one that failed by what may be gone at a retry."""


def submission_id(spec: JobSpec) -> str:
    """Return the id of the Ray job of a spec: the same for every process that asks for this stage in this folder."""
    place = hashlib.sha256(storage.absolute(spec.folder).encode()).hexdigest()[:8]
    return f"infinity-{spec.kind}-{spec.digest()}-{place}"


class WatchSign(NamedTuple):
    """What a job finds of those who watch it.

    Attributes:
        text: Text that changes with every sign of life.
        is_last: Whether the process that gave it was found dead.
    """

    text: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The folder ``job`` of one stage.

    Attributes:
        folder: Absolute URI of the folder.
    """

    folder: str

    @classmethod
    def of(cls, spec: JobSpec) -> JobFiles:
        """Return the files of a stage."""
        return cls(storage.join(storage.absolute(spec.folder), FOLDER))

    def submission(self, mark: str) -> str:
        """Return the URI of a spec as it was submitted.

        Args:
            mark: Random text of this submission, so that a file of this name is nowhere else.
        """
        return storage.join(self.folder, f"submission-{mark}.json")

    def submit(self, spec: JobSpec, mark: str) -> None:
        """Write the spec for the job to read."""
        storage.write_text(self.submission(mark), json.dumps(spec.to_file(), indent=2, ensure_ascii=False) + "\n")

    def withdraw(self, mark: str) -> None:
        """Delete the spec of a submission that is over."""
        with suppress(storage.StorageError):
            storage.delete_tree(self.submission(mark))

    def tell(self, mark: str, progress: Progress) -> None:
        """Write the progress of the job of this submission; called by the job."""
        self._write(PROGRESS_FILE, {"mark": mark, "fraction": progress.fraction, "message": progress.message})

    def progress(self, mark: str) -> Progress | None:
        """Return the newest progress of the job of this submission, if it told any; that of an earlier job is none."""
        found = self._read(PROGRESS_FILE)
        if found is None or found.get("mark") != mark:
            return None
        try:
            return Progress(float(found["fraction"]), str(found["message"]))
        except (KeyError, TypeError, ValueError):
            return None

    def watch(self, watcher: str, number: int) -> None:
        """Give a sign of life of a process that watches the job.

        Args:
            number: Number that is another one at every call.
        """
        self._write(WATCH_FILE, {"watcher": watcher, "number": number})

    def watched(self) -> WatchSign:
        """Return the newest sign of life of a watching process.

        Raises:
            StorageError: The place cannot be asked.
        """
        found = self._read(WATCH_FILE) or {}
        return WatchSign(json.dumps([found.get("watcher"), found.get("number")]), found.get("is_last") is True)

    def leave(self, watcher: str) -> None:
        """Mark the sign of a watcher as its last, if it gave the newest; called by whoever finds its process dead.

        Another process that watches gives its own sign over it within seconds.

        Raises:
            StorageError: The place cannot be asked or written.
        """
        found = self._read(WATCH_FILE) or {}
        if found.get("watcher") == watcher and not found.get("is_last"):
            self._write(WATCH_FILE, {**found, "is_last": True})

    def stop(self, mark: str, run: str) -> None:
        """Note that a run is about to stop the job of this submission.

        Raises:
            StorageError: The place cannot be written.
        """
        self._write(STOP_FILE, {"mark": mark, "run": run})

    def stopped_by(self, mark: str) -> str | None:
        """Return the run that has stopped the job of this submission; None where none did, or the place is away."""
        try:
            found = self._read(STOP_FILE)
        except storage.StorageError:
            return None
        return str(found.get("run", "")) if found is not None and found.get("mark") == mark else None

    def end(self, mark: str, error: str, *, may_retry: bool) -> None:
        """Write why the job of this submission failed; called by the job."""
        self._write(END_FILE, {"mark": mark, "error": error, "may_retry": may_retry})

    def ended(self, mark: str) -> tuple[str, bool] | None:
        """Return why the job of this submission failed and whether a retry may help; None where it left no word."""
        found = self._read(END_FILE)
        if found is None or found.get("mark") != mark:
            return None
        return str(found.get("error", "")), bool(found.get("may_retry"))

    def _write(self, name: str, data: dict[str, Any]) -> None:
        storage.write_text(storage.join(self.folder, name), json.dumps(data, ensure_ascii=False) + "\n")

    def _read(self, name: str) -> dict[str, Any] | None:
        uri = storage.join(self.folder, name)
        try:
            found = parse_json(storage.read_bytes(uri), where=uri)
        except (storage.FileMissingError, ConfigError):
            return None
        return found if isinstance(found, dict) else None
