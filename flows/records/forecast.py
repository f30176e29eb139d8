"""What a run will take, before it begins: which stages are done, time, memory and disk; and whether they are there."""

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infinity import storage
from infinity.jobs.estimate.estimate import Estimate, calibrate, estimate
from infinity.jobs.spec import is_done
from infinity.jobs.training.base import STATE_FOLDER, TrainSpec
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.runs import EndToEnd
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.checkpoints import StateStore

STATES = 3
"""Stored states that lie on a disk at once: two that are kept, and one that is being written."""

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, kw_only=True, slots=True)
class StageForecast:
    """What one stage will take.

    Attributes:
        name: Name of the stage.
        folder: URI of its outputs.
        state: "done", "goes on at step n" or "runs".
        seconds: Seconds of the training that is left; None where that is not estimated.
        memory: Bytes of all its workers together at the peak; 0 where that is not estimated.
        disk: Bytes that its states and model add to the outputs; 0 where that is not estimated.
        cpus: CPUs that its workers use.
        gpus: GPUs that its workers use.
    """

    name: str
    folder: str
    state: str
    seconds: float | None = None
    memory: int = 0
    disk: int = 0
    cpus: int = 0
    gpus: int = 0

    @property
    def hours(self) -> float:
        """Hours that are left; 0 where they are not estimated."""
        return (self.seconds or 0.0) / 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Price of an hour of a CPU and of a GPU, in any currency."""

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0

    def cost(self, stage: StageForecast) -> float:
        """Return what a stage costs."""
        return stage.hours * (stage.cpus * self.cpu_hour + stage.gpus * self.gpu_hour)


def forecast(plan: EndToEnd, *, timed: bool, names: tuple[str, ...]) -> list[StageForecast]:
    """Return what the stages of a plan will take.

    Args:
        plan: Specs of the run.
        timed: Whether a short run on this machine's CPU tells the seconds of a step; it takes about 10 s per training.
        names: Stages to look at.
    """
    return [_of_stage(name, plan, timed) for name in names]


def _of_stage(name: str, plan: EndToEnd, timed: bool) -> StageForecast:
    spec = getattr(plan, name)
    if is_done(spec):
        return StageForecast(name=name, folder=spec.folder, state="done")
    if not isinstance(spec, (TrainTokenizerSpec, TrainTransformerSpec)):
        return StageForecast(name=name, folder=spec.folder, state="runs")
    shape = plan.tokenizer.model if isinstance(spec, TrainTransformerSpec) else None
    found = _estimated(spec, shape, timed)
    step = max(0, StateStore(storage.join(spec.folder, STATE_FOLDER), background=False).newest_step())
    stored = found.weights + found.optimizer + found.average
    seconds = None if found.seconds_per_step is None else found.seconds_per_step * (spec.loop.num_steps - step)
    workers = spec.workers
    return StageForecast(
        name=name,
        folder=spec.folder,
        state=f"goes on at step {step}" if step else "runs",
        seconds=seconds,
        memory=workers.num_workers * found.total_bytes,
        disk=(STATES * stored + found.weights) * workers.sharers,
        cpus=workers.num_workers * workers.threads,
        gpus=workers.num_workers if workers.use_gpu else 0,
    )


def _estimated(spec: TrainTokenizerSpec | TrainTransformerSpec, shape: TokenizerConfig | None, timed: bool) -> Estimate:
    timing = calibrate(spec, tokenizer=shape) if timed and not spec.workers.use_gpu else None
    return estimate(spec, tokenizer=shape, calibration=timing)


def problems(stages: list[StageForecast], plan: EndToEnd, *, is_local: bool) -> Iterator[str]:
    """Yield a sentence for every stage that cannot fit.

    Args:
        stages: What the stages will take.
        plan: Specs of the run.
        is_local: Whether the workers run on this machine; what a cluster has is not known here.
    """
    if is_local:
        have = memory_bytes()
        for stage in stages:
            spec = getattr(plan, stage.name)
            if stage.memory > have and isinstance(spec, TrainSpec) and not spec.workers.use_gpu:
                yield (
                    f"{stage.name}: its {spec.workers.num_workers} workers need {_giga(stage.memory)} of memory, this "
                    f"machine has {_giga(have)} free; use fewer workers, smaller micro-batches or activation "
                    "checkpointing"
                )
    if (path := storage.local_path(plan.dataset.output)) is not None:
        wanted, free = sum(stage.disk for stage in stages), free_bytes(path)
        if wanted > free:
            yield (
                f"outputs: the stages need {_giga(wanted)} of disk at {path}, {_giga(free)} are free; make room, or "
                "set INFINITY_RUNS elsewhere"
            )


def memory_bytes() -> int:
    """Return the bytes that processes may still claim: of the machine, or of the container around this process."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    limits = [path.read_text(encoding="ascii").strip() for path in _CGROUPS if path.exists()]
    return min([free, *(int(limit) for limit in limits if limit.isdecimal())])


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk on which a folder lies, or will lie."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def shown(stages: list[StageForecast], prices: Prices) -> list[dict[str, str]]:
    """Return a table of the stages, with a last line of sums."""
    rows = [
        {
            "stage": stage.name,
            "state": stage.state,
            "time": _time(stage.seconds),
            "CPU hours": f"{stage.hours * stage.cpus:.2f}" if stage.seconds else "",
            "GPU hours": f"{stage.hours * stage.gpus:.2f}" if stage.seconds and stage.gpus else "",
            "memory": _giga(stage.memory) if stage.memory else "",
            "disk": _giga(stage.disk) if stage.disk else "",
            "cost": _cost(prices.cost(stage)),
        }
        for stage in stages
    ]
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    cost = math.fsum(map(prices.cost, stages))
    rows.append(
        {
            "stage": "all trainings",
            "state": f"{sum(stage.state == 'done' for stage in stages)} of {len(stages)} done",
            "time": _time(sum(known) if known else None),
            "CPU hours": f"{math.fsum(stage.hours * stage.cpus for stage in stages):.2f}" if known else "",
            "GPU hours": "",
            "memory": _giga(max((stage.memory for stage in stages), default=0)),
            "disk": _giga(sum(stage.disk for stage in stages)),
            "cost": _cost(cost),
        }
    )
    return rows


def _cost(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else ""


def _giga(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    minutes = seconds / 60.0
    return f"{minutes:.0f} min" if minutes < 120.0 else f"{minutes / 60.0:.1f} h"
