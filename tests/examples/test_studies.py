"""Every study of ``examples/studies``: as long as a page, its arms fit its rule, and a broken variant changes it."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infinity.jobs.cluster.connection import in_process
from infinity.jobs.estimate.traced import TracedSpec
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.reporting.study import StudyResult
from infinity.studies.pages import FOLDER, load_study, names
from infinity.studies.running import StudyRun, run_study
from infinity.studies.world import World
from tests.fixtures.jobs.study_jobs import WrittenReports, weights_of

NAMES = names()
SEEDS = (3, 5, 8)
Law = Callable[[EvaluateSpec, TrainTransformerSpec, TrainTokenizerSpec], float]
"""Quality of a model's drawings, 0 to 1, before noise; the loss falls with it."""


def quality(job: EvaluateSpec, model: TrainTransformerSpec, tokenizer: TrainTokenizerSpec) -> float:
    """A world in which every claim is true."""
    size = model.model.width**2 * model.model.depth
    value = 0.3 + 0.1 * (1 - (size / 1e3) ** -0.1)
    value += 0.1 if model.self_correction and not model.flips_only else 0.0
    value += 0.2 * model.self_correction if not model.flips_only else 0.0
    value += 0.05 if model.model.scale_embedding_period is not None else 0.0
    value -= 0.1 if model.model.positions == "learned" else 0.0
    value -= 0.1 if model.model.head == "joint" else 0.0
    value += 0.2 if job.scenes is not None and job.scenes.best_of is not None else 0.0
    value -= 0.15 * max((*job.sampling.pruned, 0.5), default=0.0) - 0.075
    value += 0.05 * (tokenizer.model.num_bits > 16) * (1 if size > 4 * 1024 else -1)
    guidance = job.sampling.guidance
    if job.sampling.greedy:
        return value - 0.2
    if isinstance(guidance, tuple):
        return value + (0.1 if guidance[0] > 1 else 0.0)
    if isinstance(guidance, float):
        return value + (0.1 if guidance > 1 and job.sampling.guide_logits else 0.0)
    return value + 0.04


def run(name: str, folder: Path, law: Law) -> StudyResult:
    """Run a study with written reports, whose values follow from a law and a little noise."""

    def values(job: EvaluateSpec, trained: dict[str, JobSpec]) -> dict[str, float]:
        model = trained[job.model]
        assert isinstance(model, TrainTransformerSpec)
        tokenizer = trained[model.tokenizer]
        assert isinstance(tokenizer, TrainTokenizerSpec)
        said = "".join(spec.dump() for spec in (tokenizer, model, job)).replace(str(folder), "")
        about = re.sub("[0-9a-f]{16}", "", said)  # without places, which differ from run to run
        noise = random.Random(about).gauss(0, 0.002)
        found = law(job, model, tokenizer) + noise
        psnr = 10 + tokenizer.model.num_bits / 4 + 10 * noise
        size = weights_of(model)
        return {
            "scene_geneval.overall": found,
            "validation.loss": size**-0.05 * (1 + noise) if name == "scaling" else 1 - 0.3 * found,
            "reconstruction.psnr_db": psnr,
        }

    world = World("mini", str(folder))
    return run_study(StudyRun(study=load_study(name), world=world, seeds=SEEDS), run_jobs=WrittenReports(values))


def test_every_study_is_a_page_that_can_be_read() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.py"))
    numbers = [load_study(name).number for name in NAMES]
    assert numbers == sorted(set(numbers))
    for name in NAMES:
        text = (FOLDER / f"{name}.py").read_text()
        assert 25 <= len(text.splitlines()) <= 70, name
        docstring = ast.get_docstring(ast.parse(text)) or ""
        assert f"infinity study {name}" in map(str.strip, docstring.splitlines()), name
        study = load_study(name)
        assert study.name == name
        assert all((study.claim, study.source, study.reason, study.title)), name


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_holds_where_it_is_true(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path, quality)
    assert result.verdict == "holds", [(each.name, each.mean, each.low, each.high) for each in result.contrasts]


def without(**changes: Any) -> Law:
    """The same world with a broken switch: models are as good as if these fields had their other value."""
    return lambda job, model, tokenizer: quality(job, model.replace(**changes), tokenizer)


BROKEN: dict[str, Law] = {
    "self_correction": without(flips_only=True, self_correction=0.3),
    "flip_rate": without(self_correction=0.0),
    "positions": lambda job, model, tokenizer: 1.0 - quality(job, model, tokenizer),
    "teacher_forcing": without(self_correction=0.3),
    "heads": lambda job, model, tokenizer: 1.0 - quality(job, model, tokenizer),
    "vocabulary": lambda job, model, tokenizer: quality(
        job, model, tokenizer.replace(model=tokenizer.model.replace(num_bits=48 - tokenizer.model.num_bits))
    ),
    "sampling": lambda job, model, tokenizer: quality(
        job.replace(sampling=job.sampling.replace(guidance=1.0, guide_logits=True, guided_blocks=())), model, tokenizer
    ),
    "search": lambda job, model, tokenizer: quality(
        job.replace(scenes=None if job.scenes is None else job.scenes.replace(best_of=None)), model, tokenizer
    ),
    "pruning": lambda job, model, tokenizer: quality(job, model, tokenizer) - sum(job.sampling.pruned),
    "late_guidance": lambda job, model, tokenizer: quality(
        job.replace(sampling=job.sampling.replace(guidance=1.0)), model, tokenizer
    ),
}
"""What is planted: re-quantisation switched off, flips switched off, guidance without effect, and so on."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_planted_broken_variant_changes_the_verdict_of_its_claim(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path, BROKEN[name]).verdict != "holds"


def test_bsq_without_its_short_cut_is_no_longer_flat(tmp_path: Path) -> None:
    study = load_study("memory")

    def broken(world: World, seed: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for arm, (job,) in study.arms(world, seed).items():
            assert isinstance(job, TracedSpec)
            assert job.tokenizer is not None
            losses = job.tokenizer.losses.replace(all_codes=True)
            found[arm] = [job.replace(tokenizer=job.tokenizer.replace(losses=losses))]
        return found

    run_of = StudyRun(study=replace(study, arms=broken), world=World("mini", str(tmp_path)), seeds=(0,))
    result = run_study(run_of, run_jobs=WrittenReports(lambda *_: {}))
    assert [each.verdict for each in result.contrasts] == ["does not hold", "holds"]
    assert result.verdict == "does not hold"


@pytest.mark.slow
def test_a_study_in_miniature_runs_from_pictures_to_its_page(tmp_path: Path, exhaustive: bool) -> None:
    with in_process():
        for name in NAMES if exhaustive else ["late_guidance"]:
            world = World("mini", str(tmp_path))
            result = run_study(StudyRun(study=load_study(name), world=world, seeds=(0, 1, 2)))
            assert all(row.values for row in result.rows), name
            assert all(each.mean is not None for each in result.contrasts), name
