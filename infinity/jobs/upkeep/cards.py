"""The status of runs in words, for pages and the terminal."""

from __future__ import annotations

import time

from infinity.jobs.upkeep.fleet import CUT_OFF, DONE, WORKS, RunStatus, ago, duration
from infinity.reporting.fleet import FleetCard

UNREADABLE = "unreadable"


def card(
    run: RunStatus,
    *,
    cpu_hour: float = 0.0,
    gpu_hour: float = 0.0,
    cpu_w: float = 0.0,
    gpu_w: float = 0.0,
    now: float | None = None,
) -> FleetCard:
    """Return a run as a card of the fleet's page.

    Args:
        cpu_hour: Price of an hour of a CPU.
        gpu_hour: Price of an hour of a GPU.
        cpu_w: Power of a CPU at work, in watts.
        gpu_w: Power of a GPU at work, in watts.
        now: Time in seconds since 1970; None for the present.
    """
    now, stage = time.time() if now is None else now, run.now
    seconds = sum(each.seconds for each in run.stages)
    cost = sum(each.cost(cpu_hour, gpu_hour) for each in run.stages)
    energy = sum(each.cost(cpu_w / 1000.0, gpu_w / 1000.0) for each in run.stages)
    state = UNREADABLE if run.trouble else DONE if stage is None else stage.state
    is_training = stage is not None and stage.num_steps > 0
    facts = {
        "stages done": f"{sum(each.state == DONE for each in run.stages)} of {len(run.stages)}" if run.stages else "",
        "step": f"{max(stage.step, 0):,} of {stage.num_steps:,}" if stage and is_training else "",
        "rate": f"{stage.rate:.3g} steps/s" if stage and state == WORKS and stage.rate else "",
        "time left": duration(stage.left_s) if stage else "",
        "last checkpoint": f"step {stage.stored_step:,}, {ago(stage.stored_at, now)}"
        if stage and stage.stored_step >= 0
        else "",
        "owner": _owner(run),
        "computing time": duration(seconds) if seconds else "",
        "cost so far": f"{cost:.2f}" if cost else "",
        "energy so far": f"{energy:.3g} kWh" if energy else "",
        "disk": f"{run.num_bytes / 1e6:,.1f} MB",
        "last change": ago(run.changed, now),
    }
    return FleetCard(
        name=run.name,
        folder=run.folder,
        state=state,
        stage=stage.name if stage else "",
        fraction=stage.fraction if stage else 1.0,
        facts=tuple((label, value) for label, value in facts.items() if value),
        attention=tuple(run.attention()),
    )


def _owner(run: RunStatus) -> str:
    stage = run.now
    if stage is None or stage.owner is None or stage.state == CUT_OFF:
        return ""
    return f"{stage.owner.who}, since {stage.owner.since}"
