"""Curves, pictures and scores of jobs, sent to a tracker; what was sent before is not sent again."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from infinity import storage
from infinity.config import Config, ConfigError
from infinity.evaluation.score import Score
from infinity.reporting.tracking.trackers import Tracker, open_tracker
from infinity.storage.json_files import read_config, read_json
from infinity.storage.lines import json_objects
from infinity.training.metrics import METRICS_FILE

_SAMPLE = re.compile(r"samples/step-(\d+)\.png$")
_SHEET = re.compile(r"sheets/([^/]+)\.png$")
_SCORES = "scores.json"
_DAMAGED = "restore the file, or delete the evaluation's report and start the same evaluation again"
_FORGOTTEN = "restore the file, or delete it to send everything again"


@dataclass(frozen=True, kw_only=True, slots=True)
class SentSoFar(Config):
    """What a tracker got of a job already.

    Attributes:
        step: Last step of the curves; -1 for none.
        pictures: Paths of pictures below the job's folder.
        scores: Whether the scores were sent.
    """

    step: int = -1
    pictures: tuple[str, ...] = ()
    scores: bool = False


@dataclass(frozen=True, slots=True)
class SentNow:
    """Numbers of what was sent: rows of curves, pictures and scores."""

    rows: int
    pictures: int
    scores: int


def jobs_of(folder: str) -> list[str]:
    """Return the folders of jobs with curves or scores: the folder itself, or those in it.

    Raises:
        ValueError: There is none.
    """
    uris = storage.list_files(folder)
    found = {storage.parent(uri) for uri in uris if storage.name(uri) in (METRICS_FILE, _SCORES)}
    if not found:
        raise ValueError(
            f"{folder}: expected the folder of a training or evaluation, or of a run that holds some, found no "
            f"{METRICS_FILE} and no {_SCORES}"
        )
    return sorted(found)


class Sending:
    """A job and a tracker that gets what is new of it, as a run with the name of the job's folder.

    The tracker is opened when there is something to send, and stays open until ``close``.

    Args:
        job: URI of the job's folder.
        folder: Local folder of the tracker.
    """

    def __init__(self, job: str, tracker: str, *, folder: Path, project: str) -> None:
        self.job, self.tracker = job, tracker
        self._folder, self._project, self._name = folder, project, storage.name(job.rstrip("/"))
        self._state = storage.join(str(folder.absolute()), f"sent-{tracker}", f"{project}-{self._name}.json")
        self._opened: Tracker | None = None

    def update(self) -> SentNow:
        """Send what was not sent before.

        Raises:
            ValueError: There is no such tracker, its package is not installed, or a file of the job cannot be read.
            StorageError: A file cannot be read.
        """
        state = self._state
        before = read_config(state, SentSoFar, remedy=_FORGOTTEN) if storage.exists(state) else SentSoFar()
        rows = [row for row in _rows(self.job) if row["step"] > before.step]
        pictures = [each for each in _pictures(self.job) if each[0] not in before.pictures]
        scores = [] if before.scores else _scores(self.job)
        if not rows and not pictures and not scores:
            return SentNow(0, 0, 0)
        if self._opened is None:
            self._opened = open_tracker(self.tracker, self._folder, self._project, self._name)
        _write(self._opened, self.job, rows, pictures, scores)
        after = SentSoFar(
            step=int(max([before.step, *(row["step"] for row in rows)])),
            pictures=(*before.pictures, *(path for path, _, _ in pictures)),
            scores=before.scores or bool(scores),
        )
        storage.write_text(state, after.dump())
        return SentNow(len(rows), len(pictures), len(scores))

    def close(self) -> None:
        """Write what is left, and end the run at the tracker."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def send(job: str, tracker: str, *, folder: Path, project: str) -> SentNow:
    """Send what is new of a job to a tracker once; arguments and errors are those of `Sending`.

    Raises:
        ValueError: The tracker's own package refuses something, too.
    """
    sending = Sending(job, tracker, folder=folder, project=project)
    try:
        try:
            return sending.update()
        finally:
            sending.close()
    except (ValueError, OSError):
        raise
    except Exception as error:  # packages of others raise types of their own
        raise ValueError(
            f"{tracker}: {job} was not sent ({type(error).__name__}: {error}); mend what it names and run the "
            "same again"
        ) from error


def _write(
    tracker: Tracker, job: str, rows: list[dict[str, float]], pictures: list[tuple[str, str, int]], scores: list[Score]
) -> None:
    """Send in the order of steps, since some trackers drop what comes later with an earlier step."""
    pictures = sorted(pictures, key=lambda each: each[2])
    for row in rows:
        step = int(row["step"])
        while pictures and pictures[0][2] <= step:
            _send_picture(tracker, job, *pictures.pop(0))
        tracker.curve({name: value for name, value in row.items() if name != "step"}, step)
    for path, name, step in pictures:
        _send_picture(tracker, job, path, name, step)
    for score in scores:
        tracker.score(score)


def _send_picture(tracker: Tracker, job: str, path: str, name: str, step: int) -> None:
    with Image.open(io.BytesIO(storage.read_bytes(storage.join(job, path)))) as picture:
        tracker.picture(name, picture.convert("RGB"), step)


def _rows(job: str) -> Iterator[dict[str, float]]:
    uri = storage.join(job, METRICS_FILE)
    if storage.exists(uri):
        for where, row in json_objects(storage.read_bytes(uri), uri):
            if not isinstance(row.get("step"), int | float):
                raise ValueError(f"{where}: expected an object with a step, found {str(row)[:80]!r}")
            yield {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


def _pictures(job: str) -> Iterator[tuple[str, str, int]]:
    """Yield path, name and step of every sheet of pictures."""
    start = len(job.rstrip("/")) + 1
    for uri in sorted(storage.list_files(job)):
        path = uri[start:]
        if match := _SAMPLE.match(path):
            yield path, "samples", int(match[1])
        elif match := _SHEET.match(path):
            yield path, match[1], 0


def _scores(job: str) -> list[Score]:
    uri = storage.join(job, _SCORES)
    if not storage.exists(uri):
        return []
    listed = read_json(uri, remedy=_DAMAGED)
    if not isinstance(listed, list):
        raise ConfigError(f"{uri}: expected a list of scores, found {listed!r:.80}; {_DAMAGED}")
    return [Score.from_json(each, where=uri) for each in listed]
