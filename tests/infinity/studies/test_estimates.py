"""An estimate is written down before a study runs, and stands on its page only beside the jobs that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from infinity import storage
from infinity.config import ConfigError
from infinity.jobs.estimate.traced import TracedSpec
from infinity.studies.cost import JobCost
from infinity.studies.estimates import ESTIMATE_FILE, estimated_seconds, write_estimate
from infinity.studies.pages import load_study
from infinity.studies.running import PAGE_FILE, StudyRun, run_study
from infinity.studies.world import World
from tests.fixtures.jobs.study_jobs import WrittenReports


def costs(folder: Path, *seconds: float) -> list[JobCost]:
    tokenizer = World("mini", str(folder)).tokenizer()
    jobs = [TracedSpec(output=str(folder), tokenizer=tokenizer.replace(seed=seed)) for seed in range(len(seconds))]
    return [JobCost(job, each, "calibrated" if each else "done") for job, each in zip(jobs, seconds, strict=True)]


def test_an_estimate_comes_back_for_as_many_jobs_as_it_was_made_for_and_for_no_other(tmp_path: Path) -> None:
    written = write_estimate(str(tmp_path), costs(tmp_path, 0.0, 2.5, 3.25), pace=1.5)
    assert (written.seconds, written.num_left, written.pace) == (5.75, 2, 1.5)
    assert estimated_seconds(str(tmp_path), 2) == 5.75
    assert estimated_seconds(str(tmp_path), 1) is None
    assert estimated_seconds(str(tmp_path / "elsewhere"), 2) is None


def test_a_study_that_is_done_keeps_the_estimate_that_was_made_before(tmp_path: Path) -> None:
    write_estimate(str(tmp_path), costs(tmp_path, 4.0), pace=1.0)
    write_estimate(str(tmp_path), costs(tmp_path, 0.0), pace=1.0)
    assert estimated_seconds(str(tmp_path), 1) == 4.0


def test_a_damaged_estimate_is_named(tmp_path: Path) -> None:
    (tmp_path / ESTIMATE_FILE).write_text('{"seconds": 1}')
    with pytest.raises(ConfigError, match=rf"{ESTIMATE_FILE}: missing .*; delete the file"):
        estimated_seconds(str(tmp_path), 1)


def test_the_page_sets_the_estimate_beside_what_it_took(tmp_path: Path) -> None:
    run = StudyRun(study=load_study("memory"), world=World("mini", str(tmp_path)), seeds=(0,))
    number = len({job.folder for cell in run.cells for job in cell.jobs})
    write_estimate(run.folder, [JobCost(job, 12.0, "calibrated") for cell in run.cells for job in cell.jobs], pace=1.0)
    result = run_study(run, run_jobs=WrittenReports(lambda *_: {}))
    assert result.cost.estimated_s == 12.0 * number
    assert "estimated before as 2.0" in storage.read_text(storage.join(run.folder, PAGE_FILE))
    assert run_study(run, run_jobs=WrittenReports(lambda *_: {})).cost.estimated_s is None, "nothing was left to do"
