"""What runs, champions and Prefect's flow runs record, in Prometheus' text format.

`METRICS` lists every name with its labels and meaning. Nothing of a prompt or a caption is in a label.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from infinity import storage
from infinity.evaluation.promotion.champions import Champion
from infinity.jobs.upkeep.fleet import RunStatus, StageStatus

RUN, STAGE = ("run",), ("run", "stage")
METRICS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "infinity_run_bytes": (RUN, "Bytes below the folder of a run."),
    "infinity_run_changed_timestamp_seconds": (RUN, "Time of the last change below the folder of a run."),
    "infinity_run_attention": (RUN, "Number of things that a person should look at."),
    "infinity_stage_state": ((*STAGE, "state"), "1 for the state of a stage: waiting, works, cut off or done."),
    "infinity_stage_fraction": (STAGE, "Share of a stage that is done, 0 to 1."),
    "infinity_stage_step": (STAGE, "Step of a training's last metrics."),
    "infinity_stage_steps": (STAGE, "Number of steps of a training."),
    "infinity_stage_steps_per_second": (STAGE, "Steps per second of a training, at its last metrics."),
    "infinity_stage_left_seconds": (STAGE, "Seconds that a training which works still needs."),
    "infinity_stage_stored_step": (STAGE, "Step of a training's newest stored state."),
    "infinity_stage_stored_timestamp_seconds": (STAGE, "Time of a training's newest stored state."),
    "infinity_stage_silent_seconds": (STAGE, "Seconds since the last sign of life of whoever works on a stage."),
    "infinity_stage_computing_seconds": (STAGE, "Computing time of a stage so far."),
    "infinity_stage_cost": (STAGE, "Cost of a stage so far, at the prices of INFINITY_PRICE_CPU_HOUR and _GPU_HOUR."),
    "infinity_stage_metric": ((*STAGE, "metric"), "Last value of a training's metric."),
    "infinity_champion_record": (("family",), "Number of the record of a family's champion."),
    "infinity_champion_score": (("family", "metric"), "Score of a family's champion."),
    "infinity_root_free_bytes": ((), "Free bytes of the disk that holds the runs; absent for a bucket."),
    "infinity_flow_runs": (("state",), "Flow runs on the Prefect server by state."),
    "infinity_prefect_up": ((), "1 if the Prefect server answers, 0 if it does not; absent where none is asked."),
    "infinity_exported_timestamp_seconds": ((), "Time at which these figures were read."),
}
"""Labels and meaning of every metric."""


def fleet_metrics(
    runs: Sequence[RunStatus],
    champions: Sequence[Champion] = (),
    flow_runs: Mapping[str, int] | None = None,
    *,
    root: str,
    cpu_hour: float = 0.0,
    gpu_hour: float = 0.0,
    asks_prefect: bool = False,
) -> bytes:
    """Return the text of all metrics.

    Args:
        champions: Present champions of all families.
        flow_runs: Number of flow runs by state; None where the server does not answer or is not asked.
        root: URI of the root of runs.
        cpu_hour: Price of an hour of a CPU.
        gpu_hour: Price of an hour of a GPU.
        asks_prefect: Whether a Prefect server was asked.
    """
    registry = CollectorRegistry()
    gauges = {name: Gauge(name, text, labels, registry=registry) for name, (labels, text) in METRICS.items() if labels}
    single: dict[str, float] = {"infinity_exported_timestamp_seconds": time.time()}
    for run in runs:
        gauges["infinity_run_bytes"].labels(run.name).set(run.num_bytes)
        gauges["infinity_run_changed_timestamp_seconds"].labels(run.name).set(run.changed)
        gauges["infinity_run_attention"].labels(run.name).set(len(list(run.attention())))
        for stage in run.stages:
            gauges["infinity_stage_state"].labels(run.name, stage.name, stage.state).set(1)
            for name, value in _values(stage, cpu_hour, gpu_hour).items():
                gauges[name].labels(run.name, stage.name).set(value)
            for metric, value in stage.metrics.items():
                gauges["infinity_stage_metric"].labels(run.name, stage.name, metric).set(value)
    for champion in champions:
        gauges["infinity_champion_record"].labels(champion.family).set(champion.number)
        for score in champion.scores:
            if score.value is not None:
                gauges["infinity_champion_score"].labels(champion.family, score.metric).set(score.value)
    for state, number in (flow_runs or {}).items():
        gauges["infinity_flow_runs"].labels(state).set(number)
    if asks_prefect:
        single["infinity_prefect_up"] = float(flow_runs is not None)
    if (path := storage.local_path(root)) is not None and path.exists():
        single["infinity_root_free_bytes"] = shutil.disk_usage(path).free
    for name, value in single.items():
        Gauge(name, METRICS[name][1], registry=registry).set(value)
    text: bytes = generate_latest(registry)
    return text


def _values(stage: StageStatus, cpu_hour: float, gpu_hour: float) -> dict[str, float]:
    """Return the metrics of a stage that are known."""
    found: dict[str, float | None] = {
        "infinity_stage_fraction": stage.fraction,
        "infinity_stage_step": stage.step if stage.step >= 0 else None,
        "infinity_stage_steps": stage.num_steps or None,
        "infinity_stage_steps_per_second": stage.rate or None,
        "infinity_stage_left_seconds": stage.left_s,
        "infinity_stage_stored_step": stage.stored_step if stage.stored_step >= 0 else None,
        "infinity_stage_stored_timestamp_seconds": stage.stored_at or None,
        "infinity_stage_silent_seconds": stage.owner.silent_s if stage.owner else None,
        "infinity_stage_computing_seconds": stage.seconds,
        "infinity_stage_cost": stage.cost(cpu_hour, gpu_hour),
    }
    return {name: value for name, value in found.items() if value is not None}
