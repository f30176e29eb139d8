"""The speedrun: seeds of a plan, its log, its figures and whether its goals are met."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speedrun.__main__ import STAGES, main, python_of, run_stage, summary
from benchmarks.speedrun.stage import seeded
from infinity.recipes.runs import end_to_end


def write_run(output: Path, *, score: float, psnr_db: float, wall_s: float = 2.0, cpu_s: float = 3.0) -> None:
    """Write the log of a run that is done, and the report of its evaluation."""
    folder = output / "evaluation-0"
    folder.mkdir(parents=True)
    figures = {"scene_geneval.overall": score, "reconstruction.psnr_db": psnr_db}
    scores = [{"metric": metric, "value": value} for metric, value in figures.items()]
    (folder / "report.json").write_text(json.dumps({"scores": scores}))
    took = {"wall_s": wall_s, "cpu_s": cpu_s, "load": 0.5, "folder": str(folder)}
    (output / "speedrun.json").write_text(json.dumps(dict.fromkeys(STAGES, took)))


@pytest.mark.parametrize("recipe", ["mini", "demo"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_stages_of_a_seed_read_what_that_seed_wrote(recipe: Any, seed: int, tmp_path: Path) -> None:
    plain = end_to_end(recipe, source=None, output=str(tmp_path))
    plan = seeded(plain, seed)
    assert plan.pretrain.tokenizer == plan.finetune.tokenizer == f"{plan.tokenizer.folder}/model"
    assert plan.finetune.start_from == f"{plan.pretrain.folder}/model"
    assert plan.evaluation.model == f"{plan.finetune.folder}/model"
    assert {plan.tokenizer.seed, plan.pretrain.seed, plan.finetune.seed} == {seed}
    assert plan.dataset == plain.dataset
    assert (plan == plain) == (seed == 0)


def test_a_stage_that_is_in_the_log_is_not_run_again(tmp_path: Path) -> None:
    write_run(tmp_path, score=0.9, psnr_db=30.0)
    assert run_stage(Path("/no/such/tree"), tmp_path, 0, "tokenizer").cpu_s == 3.0


def test_figures_are_sums_over_stages_and_the_evaluations_own(tmp_path: Path) -> None:
    write_run(tmp_path, score=0.94, psnr_db=31.5, wall_s=20.0, cpu_s=30.0)
    log = {stage: run_stage(tmp_path, tmp_path, 0, stage) for stage in STAGES}
    assert summary(log) == {"wall_s": 100.0, "cpu_s": 150.0, "score": 0.94, "psnr_db": 31.5}


@pytest.mark.parametrize(
    ("last", "code"), [((0.92, 31.0), 0), ((0.919, 33.0), 1), ((0.99, 30.99), 1)], ids=["met", "score", "psnr"]
)
def test_every_seed_must_meet_both_goals(
    last: tuple[float, float], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (score, psnr_db) in enumerate([(0.95, 31.2), (0.93, 31.4), last]):
        write_run(tmp_path / "here" / f"seed-{seed}", score=score, psnr_db=psnr_db)
    assert main(["--work", str(tmp_path)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| here | 0 | 15 | 10 | 0.950 | 31.20 |"
    assert len(lines) == 3


def test_the_ratio_is_the_median_seeds_to_the_other_trees_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, cpu_s in enumerate([2.0, 8.0, 3.0]):
        write_run(tmp_path / "here" / f"seed-{seed}", score=0.95, psnr_db=31.5, cpu_s=cpu_s)
    write_run(tmp_path / "beside" / "seed-0", score=0.9, psnr_db=31.5, cpu_s=6.0, wall_s=4.0)
    assert main(["--work", str(tmp_path), "--beside", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "median wall_s here / beside: 0.50" in said
    assert "median cpu_s here / beside: 0.50" in said


def test_a_checkout_runs_with_its_own_interpreter(tmp_path: Path) -> None:
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert python_of(tmp_path) == own
    assert python_of(tmp_path / "other").exists()


def test_a_stage_that_fails_says_why_and_is_not_in_the_log(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "infinity").mkdir(parents=True)
    (tree / "infinity" / "__init__.py").write_text("raise SystemExit('no recipe here')\n")
    with pytest.raises(RuntimeError, match="no recipe here"):
        run_stage(tree, tmp_path / "work", 0, "dataset")
    assert not (tmp_path / "work" / "speedrun.json").exists()
