"""A page that grows while a training runs: where it stands, curves, the newest samples, and what it cost so far."""

import json
import math
import shlex
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.pages.links import link, verbatim
from flows.pages.pictures import figure, inline
from infinity import storage
from infinity.jobs.progress import Progress
from infinity.jobs.spec import SPEC_FILE, JobSpec
from infinity.jobs.training.base import SAMPLES_FOLDER, TrainSpec, step_of_sheet
from infinity.reporting.summary import Sheet
from infra.settings import settings

METRICS_FILE = "metrics.jsonl"
MEASURED_SHARE = 0.01
"""Share of a training that has to be done in a session before it says what is to come."""
CURVE_WIDTH = 40
"""Characters of a curve; a phone shows them in one line."""
_LEVELS = "▁▂▃▄▅▆▇█"


class LivePage:
    """The page of one stage of a run, in the place of the one that was there a moment ago.

    Args:
        stage: Name of the stage.
        spec: Spec of its job; of jobs that train nothing only the sentence and the files are shown.
    """

    def __init__(self, stage: str, spec: JobSpec) -> None:
        self._stage, self._spec, self._began = stage, spec, time.monotonic()
        self._first: float | None = None
        self._artifact: UUID | None = None

    def show(self, progress: Progress) -> None:
        """Write the page anew.

        Raises:
            Exception: The server does not answer, or the files cannot be read.
        """
        page = self._page(progress)
        if self._artifact is None:
            made = create_markdown_artifact(key=f"{self._stage}-live", markdown=page, description=f"Now: {self._stage}")
            assert isinstance(made, UUID)
            self._artifact = made
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=page))

    def _page(self, progress: Progress) -> str:
        spent = time.monotonic() - self._began
        lines = [
            f"# {self._stage}: {100 * progress.fraction:.0f} %",
            inline(progress.message),
            self._spent(spent, progress.fraction),
        ]
        lines.append(f"Files: {link(self._spec.folder)}")
        spec = shlex.quote(storage.join(self._spec.folder, SPEC_FILE))
        lines.append(f"To repeat it: {verbatim(f'infinity run {spec} --output again')}")
        if isinstance(self._spec, TrainSpec):
            lines += [*_curves(self._spec.folder), *_newest_samples(self._spec.folder)]
        return "\n\n".join(filter(None, lines)) + "\n"

    def _spent(self, seconds: float, fraction: float) -> str:
        """Return what this session has taken, and about what is still to come."""
        began = self._first = fraction if self._first is None else self._first
        told = f"{self._hours(seconds / 3600.0)} in this session"
        if fraction - began < MEASURED_SHARE or not isinstance(self._spec, TrainSpec):
            return told
        left = seconds / 3600.0 * (1.0 - fraction) / (fraction - began)
        return f"{told}; to the end about {self._hours(left)}"

    def _hours(self, hours: float) -> str:
        told = [f"{hours:.2f} h"]
        if isinstance(self._spec, TrainSpec):
            workers = self._spec.workers
            cpus, gpus = workers.num_workers * workers.threads, workers.num_workers if workers.use_gpu else 0
            told.append(f"{hours * cpus:.2f} CPU hours" + (f", {hours * gpus:.2f} GPU hours" if gpus else ""))
            cost, energy = settings().costs(hours * cpus, hours * gpus)
            told += [f"cost {cost:.2f}"] * (cost > 0.0) + [f"{energy:.3g} kWh"] * (energy > 0.0)
        return ", ".join(told)


def _curves(folder: str) -> list[str]:
    """Return a table of all metrics but those of single bits and scales: the course, the first and the last value."""
    uri = storage.join(folder, METRICS_FILE)
    if not storage.exists(uri):
        return []
    steps: dict[int, Mapping[str, Any]] = {}
    for line in storage.read_text(uri).splitlines():
        try:
            row = json.loads(line, parse_int=float)  # whole numbers of any length
            steps[int(row["step"])] = row  # a training that went back has told some steps twice
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue  # the line is being written, or damaged
    rows = [steps[step] for step in sorted(steps)]
    names = [name for name in (rows[-1] if rows else {}) if name != "step" and "." not in name]
    lines = ["| metric | course | first | last |", "|---|---|---|---|"]
    for name in names:
        values = [float(row[name]) for row in rows if isinstance(row.get(name), (int, float))]
        if values:
            lines.append(f"| {inline(name)} | {course(values)} | {values[0]:.4g} | {values[-1]:.4g} |")
    return ["\n".join(lines)] if names else []


def course(values: list[float]) -> str:
    """Return a curve as one line of characters: means of equal stretches, from the lowest to the highest level."""
    known = [value for value in values if abs(value) < 1e300]  # whose sums are finite
    if not known:
        return ""
    width = min(CURVE_WIDTH, len(known))
    means = []
    for i in range(width):
        stretch = known[i * len(known) // width : (i + 1) * len(known) // width]
        means.append(math.fsum(stretch) / len(stretch))
    low, high = min(means), max(means)
    if high <= low:
        return _LEVELS[0] * width
    return "".join(_LEVELS[min(7, int(8 * (mean - low) / (high - low)))] for mean in means)


def _newest_samples(folder: str) -> list[str]:
    steps = {
        step: uri
        for uri in storage.list_files(storage.join(folder, SAMPLES_FOLDER))
        if (step := step_of_sheet(uri)) is not None
    }
    if not steps:
        return []
    newest = max(steps)
    return [figure(Sheet(image=steps[newest], title=f"Samples of step {newest}"))]
