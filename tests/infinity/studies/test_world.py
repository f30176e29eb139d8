"""The building blocks of studies: what the sizes have in common, and what they share with one another."""

from __future__ import annotations

import pytest

from infinity.jobs.cluster.connection import in_process
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.studies import running
from infinity.studies.grid import cells_of, jobs_of
from infinity.studies.pages import load_study
from infinity.studies.running import alone
from infinity.studies.world import STEPS, Size, World


@pytest.mark.parametrize("size", STEPS)
def test_a_drawn_size_has_the_recipes_shape_and_its_own_length(size: Size) -> None:
    world = World(size, "studies")
    tokenizer = world.tokenizer()
    model = world.transformer(tokenizer, 3)
    assert (tokenizer.loop.num_steps, model.loop.num_steps) == STEPS[size]
    assert model.optimizer.warmup_steps < model.loop.num_steps
    assert model.optimizer.decay == "linear"
    assert (model.start_from, model.seed, model.self_correction) == (None, 3, 0.3)
    assert world.tokenizer(model={"num_bits": 12}).folder != tokenizer.folder


def test_small_trains_as_the_demo_does_with_muon() -> None:
    world = World("small", "studies")
    model = world.transformer(world.tokenizer())
    assert {world.tokenizer().optimizer.algorithm, model.optimizer.algorithm} == {"muon"}


def test_drawings_are_scored_and_reconstructions_measured_where_nothing_is_drawn() -> None:
    world = World("small", "studies")
    _, model = world.model()
    drawn, plain = world.evaluation(model), world.evaluation(model, drawings=False)
    assert drawn.scenes is not None
    assert drawn.scenes.pictures_per_prompt == 4
    assert drawn.reconstruction is None
    assert plain.scenes is None
    assert plain.reconstruction is not None


def folders(name: str) -> set[str]:
    """Folders of all trainings and evaluations of a study."""
    study = load_study(name)
    return {job.folder for job in jobs_of(cells_of(study, World("small", "studies"), (0, 1, 2)))}


def test_studies_share_the_usual_model_and_its_plain_drawings() -> None:
    sampling = folders("sampling")
    assert len(folders("late_guidance") - sampling) == 3, "guidance off at the last scale, for three seeds"
    assert len(folders("pruning") - sampling) == 9
    assert len(folders("teacher_forcing") - folders("self_correction")) == 0
    assert len(folders("flip_rate") - folders("self_correction")) == 2 * 3 * 2


@pytest.mark.parametrize("kind", [TrainTokenizerSpec, TrainTransformerSpec])
def test_one_process_does_the_work_of_all_workers_under_the_same_name(kind: type[JobSpec]) -> None:
    world = World("small", "studies")
    tokenizer = world.tokenizer()
    job = tokenizer if kind is TrainTokenizerSpec else world.transformer(tokenizer)
    assert job.workers.num_workers == 2
    single = alone(job)
    assert isinstance(single, kind)
    assert single.workers.num_workers == 1  # type: ignore[attr-defined]
    assert single.folder == job.folder


def test_a_study_in_one_process_asks_for_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[JobSpec] = []
    monkeypatch.setattr(running, "run_spec", lambda job, **_: ran.append(job))
    tokenizer = World("small", "studies").tokenizer()
    with in_process():
        running.run_jobs([tokenizer], lambda _: None)
    running.run_jobs([tokenizer], lambda _: None)
    assert [job.workers.num_workers for job in ran] == [1, 2]  # type: ignore[attr-defined]
