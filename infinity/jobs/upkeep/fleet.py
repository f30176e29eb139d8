"""Where every run below a root stands: stage, progress, rate, time left, cost, checkpoint, owner, what is wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.config import ConfigError, parse_json
from infinity.jobs.spec import REPORT_FILE, JobSpec
from infinity.jobs.training.base import STATE_FOLDER, TrainSpec
from infinity.jobs.upkeep.inventory import PLAN_FILE, Inventory, StageFolder
from infinity.jobs.upkeep.plans import planned_specs
from infinity.reporting.plots.bands import judge
from infinity.storage.leases.look import Holder, holder
from infinity.strict_json import MAX_WHOLE_NUMBER
from infinity.training.metrics import METRICS_FILE

WAITING, WORKS, CUT_OFF, DONE = "waiting", "works", "cut off", "done"
_STATE = re.compile(rf"{STATE_FOLDER}/step-(\d+)/{MARKER_FILE}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageStatus:
    """Where one stage of a run stands.

    Attributes:
        folder: URI of its folder.
        state: "waiting", "works", "cut off" or "done".
        fraction: Share of its steps that is done, 0 to 1; of jobs without steps 0 or 1.
        step: Step of the last metrics; -1 where there are none.
        num_steps: Number of steps of the training; 0 for other jobs.
        rate: Steps per second; 0 where it is not known.
        left_s: Seconds that are left; None where they are not known.
        stored_step: Step of the newest finished state; -1 where there is none.
        stored_at: Time of that state, in seconds since 1970; 0 where there is none.
        seconds: Computing time of the stage so far, in seconds.
        owner: Who works on it; None where nobody does.
        metrics: Last metrics of a training.
        notes: Warnings, one sentence each.
    """

    name: str
    folder: str
    state: str
    fraction: float = 0.0
    step: int = -1
    num_steps: int = 0
    rate: float = 0.0
    left_s: float | None = None
    stored_step: int = -1
    stored_at: float = 0.0
    seconds: float = 0.0
    cpus: int = 0
    gpus: int = 0
    owner: Holder | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cost(self, cpu_hour: float, gpu_hour: float) -> float:
        """Return what it took so far, where an hour of a CPU and of a GPU take so much: money, or energy in kWh."""
        return self.seconds / 3600.0 * (self.cpus * cpu_hour + self.gpus * gpu_hour)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """Where one run stands.

    Attributes:
        name: Path of its folder below the root.
        folder: URI of its folder.
        num_bytes: Bytes below its folder.
        changed: Time of the last change below its folder, in seconds since 1970.
        stages: Stages of its plan, in the order in which they run.
        trouble: Reason why the plan cannot be read; empty where it can.
    """

    name: str
    folder: str
    num_bytes: int
    changed: float
    stages: tuple[StageStatus, ...]
    trouble: str = ""

    @property
    def now(self) -> StageStatus | None:
        """Stage that works; else the first that was cut off or waits; None where all are done."""
        for state in (WORKS, CUT_OFF, WAITING):
            if found := next((stage for stage in self.stages if stage.state == state), None):
                return found
        return None

    def attention(self) -> Iterator[str]:
        """Yield what a person should look at, one sentence each."""
        if self.trouble:
            yield self.trouble
        for stage in self.stages:
            if stage.state == CUT_OFF:
                stored = f"stored at step {stage.stored_step}" if stage.stored_step >= 0 else "nothing is stored"
                who = f"{stage.owner.who} is gone" if stage.owner else "nobody works on it"
                yield f"{stage.name} was cut off: {who}; {stored}; start the same run again to go on"
            yield from (f"{stage.name}: {note}" for note in stage.notes)


def fleet(inventory: Inventory) -> list[RunStatus]:
    """Return the status of all runs below a root, the last changed first.

    Raises:
        StorageError: A file cannot be read.
    """
    stages = {stage.uri: stage for stage in inventory.stages}
    found = [_run(inventory, run, stages) for run in inventory.runs]
    return sorted(found, key=lambda run: (-run.changed, run.name))


def _run(inventory: Inventory, folder: str, stages: Mapping[str, StageFolder]) -> RunStatus:
    files = [file for file in inventory.files if file.uri.startswith(f"{folder}/")]
    uri, specs, trouble = storage.join(folder, PLAN_FILE), {}, ""
    try:
        specs = planned_specs(storage.read_bytes(uri), uri)
    except ConfigError as error:
        trouble = f"its plan cannot be read by this version: {error}"
    except storage.FileMissingError:
        trouble = "its plan was deleted a moment ago"
    return RunStatus(
        name=folder[len(inventory.root) + 1 :],
        folder=folder,
        num_bytes=sum(file.num_bytes for file in files),
        changed=max((file.changed for file in files), default=0.0),
        stages=tuple(_stage(name, spec, folder, stages) for name, spec in specs.items()),
        trouble=trouble,
    )


def _stage(name: str, spec: JobSpec, run: str, stages: Mapping[str, StageFolder]) -> StageStatus:
    """Return the status of a stage, whose folder may not be there yet; a run that was moved is found where it is."""
    folder = next((uri for uri in (storage.join(run, storage.name(spec.folder)), spec.folder) if uri in stages), "")
    stage, folder = stages.get(folder), folder or storage.absolute(spec.folder)
    if stage is None:
        return StageStatus(name=name, folder=folder, state=WAITING, **_size(spec))
    owner = None if stage.is_done else holder(folder)
    report = _json(stage, REPORT_FILE) if stage.is_done else {}
    steps = _steps(spec, stage)
    state = DONE if stage.is_done else WORKS if owner is not None and not owner.is_gone else CUT_OFF
    told = report.get("notes")
    notes = tuple(map(str, told if isinstance(told, list) else ())) + _judged(steps["metrics"])
    seconds = _number(report.get("seconds"), 0.0) or _working_s(steps)
    steps["fraction"] = 1.0 if stage.is_done else steps["fraction"]
    steps["left_s"] = None if state != WORKS else steps["left_s"]
    return StageStatus(
        name=name, folder=folder, state=state, seconds=seconds, owner=owner, notes=notes, **steps, **_size(spec)
    )


def _size(spec: JobSpec) -> dict[str, Any]:
    """Return how many CPUs and GPUs the workers of a job use."""
    workers = getattr(spec, "workers", None)
    number = int(getattr(workers, "num_workers", 1))
    is_on_gpu = bool(getattr(workers, "use_gpu", False))
    return {"cpus": number * int(getattr(workers, "threads", 1)), "gpus": number if is_on_gpu else 0}


def _steps(spec: JobSpec, stage: StageFolder) -> dict[str, Any]:
    """Return what the metrics and the stored states of a training tell."""
    total = spec.loop.num_steps if isinstance(spec, TrainSpec) else 0
    row = _last_row(stage) if total else {}
    step, pace = int(_number(row.get("step"), -1.0)), _number(row.get("seconds_per_step"), 0.0)
    stored = {int(match[1]): file.changed for path, file in stage.paths.items() if (match := _STATE.fullmatch(path))}
    newest = max(stored, default=-1)
    return {
        "fraction": min(1.0, max(step, newest, 0) / total) if total else 0.0,
        "step": step,
        "num_steps": total,
        "rate": 1.0 / pace if pace > 0 else 0.0,
        "left_s": pace * (total - step) if pace > 0 and step >= 0 else None,
        "stored_step": newest,
        "stored_at": stored.get(newest, 0.0),
        "metrics": {name: value for name, value in row.items() if "." not in name},
    }


def _number(value: object, otherwise: float) -> float:
    """Return a number of a file, at least 0; another value where the file is damaged."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_WHOLE_NUMBER:
        return otherwise
    return float(value)


def _working_s(steps: Mapping[str, Any]) -> float:
    """Return about how long a training that has not ended has computed, whatever sessions it had."""
    return steps["step"] / steps["rate"] if steps["rate"] and steps["step"] > 0 else 0.0


def _last_row(stage: StageFolder) -> dict[str, float]:
    """Return the numbers of the last line of the metrics that is whole."""
    if METRICS_FILE not in stage.paths:
        return {}
    text = storage.read_bytes(stage.paths[METRICS_FILE].uri).decode("utf-8", "replace")
    for line in reversed(text.splitlines()):
        try:
            row = json.loads(line)
            return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        except (ValueError, AttributeError, OverflowError, RecursionError):
            continue  # it is being written, or damaged
    return {}


def _judged(metrics: Mapping[str, float]) -> tuple[str, ...]:
    found = ((name, value, judge(name, value)) for name, value in metrics.items())
    return tuple(f"{name} {value:.3g}: {band.text}" for name, value, band in found if band and band.verdict == "broken")


def _json(stage: StageFolder, name: str) -> dict[str, Any]:
    """Return a JSON file of a stage; nothing where it is damaged, which its own job tells when it is read."""
    try:
        found = parse_json(storage.read_bytes(stage.paths[name].uri), where=name)
    except (ConfigError, storage.FileMissingError):
        return {}
    return found if isinstance(found, dict) else {}


def ago(moment: float, now: float | None = None) -> str:
    """Return how long ago a moment was, in words; empty for 0."""
    return "" if not moment else f"{duration((time.time() if now is None else now) - moment)} ago"


def duration(seconds: float | None) -> str:
    """Return a time span in words, for example "3.2 h"; empty where it is not known."""
    if seconds is None:
        return ""
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
