"""A study that only draws takes finished models where they lie now, and a study that trains refuses them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.speedrun.stage import seeded
from infinity.cli import app
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.spec import REPORT_FILE, JobSpec
from infinity.recipes.runs import end_to_end
from infinity.studies.finished import FinishedModel, finished_model
from infinity.studies.grid import cells_of, jobs_of
from infinity.studies.pages import load_study, names
from infinity.studies.running import StudyRun, run_study
from infinity.studies.world import World
from tests.fixtures.jobs.study_jobs import WrittenReports

STAGES = ("tokenizer", "pretrain", "finetune")


def write_run(folder: Path, seed: int = 0, stages: tuple[str, ...] = STAGES) -> str:
    """Write the files by which a finished run is known."""
    plan = seeded(end_to_end("mini", source=None, output=str(folder)), seed)
    WrittenReports(lambda *_: {})([getattr(plan, stage) for stage in stages], lambda _: None)
    return str(folder)


def test_the_model_of_a_run_is_its_last_and_that_of_a_training_its_own(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    last = finished_model(run)
    assert (last.transformer.stage, last.tokenizer.stage) == ("finetune", "tokenizer")
    first = next(path for path in tmp_path.glob("transformer-*") if str(path) != last.transformer.folder)
    assert finished_model(str(first)).transformer.stage == "pretrain"


def test_a_training_that_was_moved_is_found_where_it_lies_now(tmp_path: Path) -> None:
    folder = Path(finished_model(write_run(tmp_path / "run")).transformer.folder)
    moved = shutil.copytree(folder, tmp_path / "kept" / folder.name)
    assert finished_model(str(moved)).transformer.folder == str(moved)


@pytest.mark.parametrize(
    ("stages", "message"), [((), "found none"), (("tokenizer",), "found none"), (("pretrain",), "its tokenizer is not")]
)
def test_a_folder_without_a_finished_model_is_named(stages: tuple[str, ...], message: str, tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    with pytest.raises(ValueError, match=message) as told:
        finished_model(write_run(tmp_path / "run", stages=stages))
    assert str(tmp_path / "run") in str(told.value)


def test_a_training_without_a_report_is_not_finished(tmp_path: Path) -> None:
    last = finished_model(write_run(tmp_path)).transformer
    Path(last.folder, REPORT_FILE).unlink()
    assert finished_model(str(tmp_path)).transformer.stage == "pretrain"
    with pytest.raises(ValueError, match="found none"):
        finished_model(last.folder)


def test_two_models_at_the_end_are_both_named(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"found several: .*transformer-.*transformer-"):
        finished_model(write_run(tmp_path, seed=1))


def models(folder: Path) -> tuple[FinishedModel, ...]:
    return tuple(finished_model(write_run(folder / f"run-{seed}", seed)) for seed in range(3))


DRAWING = [name for name in names() if load_study(name).only_draws]


@pytest.mark.parametrize("name", DRAWING)
def test_a_study_that_draws_evaluates_the_finished_models_and_trains_nothing(name: str, tmp_path: Path) -> None:
    found = models(tmp_path)
    jobs = WrittenReports(lambda job, _: {"scene_geneval.overall": 0.5 + 0.01 * len(job.model), "validation.loss": 0.5})
    run = StudyRun(study=load_study(name), world=World("mini", str(tmp_path / "s"), models=found), seeds=(0, 1, 2))
    result = run_study(run, run_jobs=jobs)
    assert {job.kind for job in jobs.ran} == {"evaluation"}
    asked = {job.model for job in jobs.ran if isinstance(job, EvaluateSpec)}
    assert asked == {f"{each.transformer.folder}/model" for each in found}
    assert "finetune of seed 1" in result.notes[0]
    assert result.complete_seeds == 3


@pytest.mark.parametrize("name", sorted(set(names()) - set(DRAWING)))
def test_a_study_that_trains_refuses_finished_models(name: str, tmp_path: Path) -> None:
    world = World("mini", str(tmp_path / "s"), models=models(tmp_path))
    with pytest.raises(ValueError, match="trains models of its own"):
        cells_of(load_study(name), world, (0, 1, 2))


def test_models_that_are_no_seeds_of_one_recipe_are_refused_with_what_differs(tmp_path: Path) -> None:
    found = models(tmp_path)
    assert World("mini", "s", models=found).models == found
    with pytest.raises(ValueError, match=rf"{Path(found[0].transformer.folder).name} is given twice"):
        World("mini", "s", models=(*found, found[0]))
    transformer, tokenizer = found[1].transformer, found[1].tokenizer
    for other, differing in (
        (replace(found[1], transformer=transformer.replace(self_correction=0.0)), "transformer.self_correction;"),
        (replace(found[1], tokenizer=tokenizer.replace(loop=tokenizer.loop.replace(num_steps=41))), "tokenizer.loop;"),
        (replace(found[1], transformer=transformer.replace(manifest="/d/dataset-1/m.parquet")), "the data set;"),
        (replace(found[1], transformer=transformer.replace(stage="pretrain", seed=9)), "transformer.stage;"),
    ):
        with pytest.raises(ValueError, match=f"differ in {differing}"):
            World("mini", "s", models=(found[0], other))


def test_one_recipe_may_run_elsewhere_with_other_workers_and_other_readers(tmp_path: Path) -> None:
    found = models(tmp_path)
    transformer = found[1].transformer
    moved = transformer.replace(
        output="s3://elsewhere",
        workers=transformer.workers.replace(threads=4),
        reading=transformer.reading.replace(num_workers=7),
        manifest=f"s3://elsewhere/{Path(transformer.manifest).parent.name}/manifest.parquet",
    )
    World("mini", "s", models=(found[0], replace(found[1], transformer=moved)))


def test_the_command_says_what_is_wrong_with_its_models(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for options, message in (
        (["--models", str(tmp_path / "nothing")], "found none"),
        (["--models", run], "1 finished models serve"),
        (["--models", run, "--seeds", "0,1,2"], "1 finished models serve"),
    ):
        done = CliRunner().invoke(app, ["study", "sampling", "--here", "-o", str(tmp_path / "s"), *options])
        assert done.exit_code != 0
        assert message in " ".join(done.output.split())


def test_of_all_studies_those_that_draw_take_finished_models_and_nothing_else_is_run(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run-{seed}", seed) for seed in range(3)]
    given = [option for run in runs for option in ("--models", run)]
    options = ["--here", "--size", "mini", "--budget", "0", "-o", str(tmp_path / "s"), *given]
    done = CliRunner().invoke(app, ["study", "all", *options])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "s" / "studies.html").read_text()
    assert page.count("<strong>not run</strong>") == len(names())
    assert page.count("<td>finished models</td>") == len(DRAWING)


def test_finished_models_get_a_folder_of_their_own(tmp_path: Path) -> None:
    def folders(world: World) -> set[str]:
        jobs: list[JobSpec] = list(jobs_of(cells_of(load_study("sampling"), world, (0, 1, 2))))
        return {job.folder for job in jobs}

    with_models = World("mini", str(tmp_path / "s"), models=models(tmp_path))
    assert not folders(World("mini", str(tmp_path / "s"))) & folders(with_models)
