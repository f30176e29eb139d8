"""An estimate counts every job once, what is done not at all, and follows the pace of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infinity.jobs.cluster.connection import in_process
from infinity.jobs.estimate.traced import TracedSpec
from infinity.studies.cost import IN_PROCESS, ON_RAY, CostModel, measured_pace
from infinity.studies.grid import cells_of
from infinity.studies.pages import load_study, names
from infinity.studies.values import note_seconds
from infinity.studies.world import World
from tests.fixtures.jobs.study_jobs import WrittenReports

SPEED = 1e10
"""FLOP/s that are assumed, so that nothing is timed."""


def test_the_pace_is_one_or_more() -> None:
    assert measured_pace() >= 1.0


def test_a_busy_machine_takes_longer_in_proportion_and_a_job_counts_once(tmp_path: Path) -> None:
    cells = cells_of(load_study("late_guidance"), World("mini", str(tmp_path)), (0, 1, 2))
    model = CostModel(flops_per_s=SPEED, pace=1.0)
    quiet, busy = model.costs(cells), replace(model, pace=8.0).costs(cells)
    assert len({cost.job.folder for cost in quiet}) == len(quiet) == 1 + 1 + 3 + 9
    for slow, quick in zip(busy, quiet, strict=True):
        assert slow.seconds == pytest.approx(8.0 * quick.seconds)
    kinds = {cost.job.kind: cost.seconds for cost in quiet}
    assert kinds["dataset"] == ON_RAY.dataset
    assert kinds["transformer"] > ON_RAY.training > IN_PROCESS.training


def test_what_is_done_costs_nothing_and_teaches_the_cost_of_its_kind(tmp_path: Path) -> None:
    cells = cells_of(load_study("memory"), World("mini", str(tmp_path)), (0, 1))
    jobs = [job for cell in cells for job in cell.jobs]
    WrittenReports(lambda *_: {})(jobs[:1], lambda _: None)
    first, *others = CostModel(flops_per_s=SPEED).costs(cells)
    assert (first.seconds, first.source) == (0.0, "done")
    assert all(isinstance(cost.job, TracedSpec) for cost in others)
    assert {cost.seconds for cost in others if cost.source == "calibrated"} == {ON_RAY.other}


def test_in_one_process_a_finished_job_counts_by_its_processor_seconds_at_the_present_pace(tmp_path: Path) -> None:
    cells = cells_of(load_study("late_guidance"), World("mini", str(tmp_path)), (0, 1, 2))
    first, other, _ = [cell.jobs[2] for cell in cells if cell.arm == cells[0].arm]
    WrittenReports(lambda *_: {})([first], lambda _: None)
    note_seconds([first], 30.0, 10.0)
    note_seconds([first], 99.0, 1.0)  # of another study, which waited for the job

    def seconds(**given: float) -> float:
        costs = CostModel(pace=2.0, **given).costs([cell for cell in cells if cell.arm == cells[0].arm])
        return next(cost.seconds for cost in costs if cost.job.folder == other.folder)

    assert seconds(flops_per_s=SPEED) == 30.0
    with in_process():
        assert seconds(flops_per_s=SPEED) == 30.0
        assert CostModel(pace=2.0)._as_before([first]) == 20.0
        note_seconds([other], 50.0)
        assert CostModel(pace=2.0)._as_before([first, other]) == 40.0, "one of them ran on Ray"
    assert CostModel(pace=2.0)._as_before([first]) == 30.0


@pytest.mark.parametrize("name", names())
def test_the_papers_size_is_estimated_from_a_speed_without_data_prompts_or_gpus(name: str, exhaustive: bool) -> None:
    if name != "pruning" and not exhaustive:
        pytest.skip("tracing a step of every tokenizer takes a minute; --exhaustive")
    cells = cells_of(load_study(name), World("paper", "/none", "/none/dataset-1/manifest.parquet"), (0, 1, 2))
    costs = CostModel(flops_per_s=4e14).costs(cells)
    assert {cost.source for cost in costs} == {"calibrated"}
    assert name == "memory" or max(cost.seconds for cost in costs) > 3600


def test_a_training_for_gpus_is_not_timed_on_a_cpu() -> None:
    cells = cells_of(load_study("vocabulary"), World("paper", "/none", "/none/dataset-1/manifest.parquet"), (0, 1, 2))
    with pytest.raises(ValueError, match=r"the tokenizer's training is for GPUs.*--tflops 400"):
        CostModel(pace=1.0).costs(cells)
