"""A fault in the program itself changes the verdict of its claim: real trainings in miniature, judged by their loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infinity.evaluation import validation
from infinity.jobs.cluster.connection import in_process
from infinity.reporting.study import StudyResult
from infinity.studies.pages import load_study
from infinity.studies.running import StudyRun, run_study
from infinity.studies.study import Arms, Study, better
from infinity.studies.world import World
from infinity.tokenizer.self_correction import TeacherForcing, teacher_forcing
from infinity.training.transformer import objective

PAGE = load_study("self_correction")


def in_miniature(num_steps: int) -> Study:
    """The page's arms with a training long enough for their losses, since miniature drawings all score 0."""

    def arms(world: World, seed: int) -> Arms:
        found = {}
        for arm, jobs in PAGE.arms(world, seed).items():
            if arm != "none":
                *before, model, _ = jobs
                loop = model.loop.replace(  # type: ignore[attr-defined]
                    num_steps=num_steps,
                    log_every_steps=num_steps,
                    save_every_steps=num_steps,
                    sample_every_steps=num_steps,
                )
                longer = model.replace(loop=loop)
                found[arm] = [*before, longer, world.evaluation(longer, seed, drawings=False)]  # type: ignore[arg-type]
        return found

    judged = better("self-correction", "flips only", "validation.loss", lower=True)
    return replace(PAGE, arms=arms, contrasts=(judged,))


def without_requantisation() -> Callable[..., TeacherForcing]:
    """The fault: labels stay those of plain encoding, whatever is flipped."""
    return lambda *given, **named: teacher_forcing(*given, **{**named, "flips_only": True})


def judged(folder: Path, num_steps: int, seeds: tuple[int, ...]) -> StudyResult:
    run = StudyRun(study=in_miniature(num_steps), world=World("mini", str(folder)), seeds=seeds)
    with in_process():
        return run_study(run)


@pytest.mark.slow
def test_without_requantisation_self_correction_no_longer_beats_flips_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    num_steps = 120 if exhaustive else 2
    sound = judged(tmp_path, num_steps, (0, 1, 2))
    for module in (objective, validation):
        monkeypatch.setattr(module, "teacher_forcing", without_requantisation())
    broken = judged(tmp_path, num_steps, (3, 4, 5))
    (contrast,), (faulty,) = sound.contrasts, broken.contrasts
    assert all(contrast.per_seed.values()), "the arms differ in every seed"
    assert not any(faulty.per_seed.values()), "both arms are the same training"
    assert broken.verdict == "not told apart"
    if exhaustive:
        assert sound.verdict == "holds", contrast
