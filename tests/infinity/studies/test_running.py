"""A study runs what is not done, ends within its budget, goes on where it stopped, and never repeats a cell."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from infinity import storage
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.progress import Progress, ProgressSink
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.study import StudyResult
from infinity.studies import running
from infinity.studies.grid import parse_seeds
from infinity.studies.running import JSON_FILE, PAGE_FILE, StudyRun, run_study
from infinity.studies.study import Arms, Study, better
from infinity.studies.world import World
from infinity.training.tokenizer.collapse import CollapseError
from tests.fixtures.jobs.study_jobs import WrittenReports


def arms(world: World, seed: int) -> Arms:
    found = {}
    for rate in (0.3, 0.1, 0.0):
        jobs, transformer = world.model(seed, self_correction=rate)
        found[f"p={rate:g}"] = [*jobs[1:], world.evaluation(transformer, seed)]
    return found


STUDY = Study(
    name="rates", number=99, title="Rates", claim="Errors in the history help.", source="Table 0", arms=arms,
    contrasts=(better("p=0.3", "p=0", "score"),), explores=frozenset({"p=0.1"}), reason="too few steps.",
)  # fmt: skip


def law(job: EvaluateSpec, trained: dict[str, JobSpec]) -> dict[str, float]:
    training = trained[job.model]
    assert isinstance(training, TrainTransformerSpec)
    noise = random.Random(f"{training.seed} {training.self_correction}").uniform(0, 0.02)
    score = {0.3: 0.6, 0.1: 0.1, 0.0: 0.4}[training.self_correction] + noise
    return {"scene_geneval.overall": score, "validation.loss": 1 - score}


def started(folder: Path, **changes: object) -> StudyRun:
    options = {"study": STUDY, "world": World("mini", str(folder)), "seeds": (0, 1, 2), **changes}
    return StudyRun(**options)  # type: ignore[arg-type]


def test_a_study_ends_in_a_verdict_a_page_and_a_json_file_and_is_not_run_twice(tmp_path: Path) -> None:
    jobs, told = WrittenReports(law), list[Progress]()
    run = started(tmp_path)
    result = run_study(run, progress=told.append, run_jobs=jobs)
    assert result.verdict == "holds"
    trained = [job for job in jobs.ran if isinstance(job, TrainTransformerSpec)]
    assert len(trained) == 3 * 3 - 1, "the third seed of an arm that is clearly worse is saved"
    assert len({job.folder for job in jobs.ran}) == len(jobs.ran), "no job was asked for twice"
    assert told[-1].fraction == 1.0
    assert StudyResult.parse(storage.read_text(storage.join(run.folder, JSON_FILE))) == result
    page = storage.read_text(storage.join(run.folder, PAGE_FILE))
    for text in ("holds", "p=0.3 better than p=0", "<svg", "worse than p=0.3", "Table 0"):
        assert text in page
    again = WrittenReports(law)
    repeated = run_study(run, run_jobs=again)
    assert again.ran == []
    assert repeated.contrasts == result.contrasts
    assert repeated.cost.num_done_before == repeated.cost.num_jobs - 2, "of the cell that was given up"


class Timed(WrittenReports):
    """Takes three seconds for a job, two of them on a processor."""

    def __init__(self, clock: SimpleNamespace) -> None:
        super().__init__(law)
        self._clock = clock

    def __call__(self, jobs: Sequence[JobSpec], progress: ProgressSink) -> None:
        super().__call__(jobs, progress)
        self._clock.now += 3.0 * len(jobs)
        self._clock.used += 2.0 * len(jobs)


@pytest.mark.parametrize("here", [False, True])
def test_the_cost_is_the_time_of_all_jobs_and_of_the_processor_where_one_process_does_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    clock = SimpleNamespace(now=1000.0, used=50.0)
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: clock.now, process_time=lambda: clock.used))
    jobs = Timed(clock)
    with in_process() if here else nullcontext():
        result = run_study(started(tmp_path), run_jobs=jobs)
    assert result.cost.jobs_s == 3.0 * len(jobs.ran)
    assert result.cost.processor_s == (2.0 * len(jobs.ran) if here else None)
    assert {row.seconds for row in result.rows if row.values} == {3.0}


def test_more_seeds_cost_their_own_cells_only(tmp_path: Path) -> None:
    run_study(started(tmp_path), run_jobs=WrittenReports(law))
    more = WrittenReports(law)
    run_study(started(tmp_path, seeds=(0, 1, 2, 11)), run_jobs=more)
    assert {job.seed for job in more.ran} == {11}  # type: ignore[attr-defined]


def test_a_spent_budget_ends_the_study_between_cells_and_the_next_run_goes_on(tmp_path: Path) -> None:
    jobs = WrittenReports(law)
    ended = run_study(started(tmp_path, budget_s=0.0), run_jobs=jobs)
    assert jobs.ran == []
    assert ended.verdict == "not run"
    assert "budget" in ended.notes[0]
    assert run_study(started(tmp_path), run_jobs=WrittenReports(law)).verdict == "holds"


class Stopping(WrittenReports):
    """Is stopped after a number of jobs; it knows the trainings of those before it."""

    def __init__(self, number: int, trained: dict[str, JobSpec]) -> None:
        super().__init__(law)
        self._left, self._trained = number, trained

    def __call__(self, jobs: Sequence[JobSpec], progress: ProgressSink) -> None:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        super().__call__(jobs, progress)


def test_a_study_that_was_stopped_anywhere_ends_like_an_uninterrupted_one(tmp_path: Path, exhaustive: bool) -> None:
    whole = run_study(started(tmp_path / "whole"), run_jobs=WrittenReports(law))
    trained: dict[str, JobSpec] = {}
    starts, cut = 0, None
    while cut is None:
        starts += 1
        with suppress(KeyboardInterrupt):
            cut = run_study(started(tmp_path / "cut"), run_jobs=Stopping(1 if exhaustive else 4, trained))
    assert starts > 2
    assert cut.contrasts == whole.contrasts
    assert [row.values for row in cut.rows] == [row.values for row in whole.rows]


class Collapsing(WrittenReports):
    """Ends every training without self-correction as a collapse."""

    def __call__(self, jobs: Sequence[JobSpec], progress: ProgressSink) -> None:
        if any(isinstance(job, TrainTransformerSpec) and job.self_correction == 0.0 for job in jobs):
            self.ran += jobs
            raise CollapseError("most bits are constant")
        super().__call__(jobs, progress)


def test_a_hopeless_training_is_told_and_not_tried_again(tmp_path: Path) -> None:
    jobs = Collapsing(law)
    result = run_study(started(tmp_path), run_jobs=jobs)
    assert result.verdict == "not told apart"
    lost = [row for row in result.rows if row.arm == "p=0"]
    assert all("most bits are constant" in row.note and not row.values for row in lost)
    again = Collapsing(law)
    run_study(started(tmp_path), run_jobs=again)
    assert again.ran == []


@pytest.mark.parametrize(("seeds", "message"), [((0, 1), "at least 3"), ((0, 0, 1), "different"), ((), "at least 3")])
def test_too_few_seeds_are_refused(seeds: tuple[int, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        _ = started(tmp_path, seeds=seeds).cells


def test_an_arm_that_a_contrast_needs_must_be_there(tmp_path: Path) -> None:
    wrong = Study(
        name="s", number=1, title="", claim="", source="", arms=arms, contrasts=(better("p=0.3", "p=0.7", "score"),)
    )
    with pytest.raises(ValueError, match=r"no arm 'p=0\.7'; it has p=0, p=0\.1, p=0\.3"):
        _ = started(tmp_path, study=wrong).cells


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "-1", "1,,2", "0-99999"])
def test_seeds_that_are_no_list_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected numbers and ranges"):
        parse_seeds(text)
