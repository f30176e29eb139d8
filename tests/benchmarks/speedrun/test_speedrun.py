"""The speedrun: seeds of a plan, its log, its figures and whether its goals are met."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speedrun.__main__ import LOG, figures, main, python_of, run_seed
from benchmarks.speedrun.stage import STAGES, seeded
from infinity.recipes.runs import EndToEnd, end_to_end


def write_log(output: Path, *, score: float, psnr_db: float, wall_s: float = 10.0, cpu_s: float = 15.0) -> None:
    """Write the log of a seed that was run."""
    output.mkdir(parents=True)
    values = {"wall_s": wall_s, "cpu_s": cpu_s, "load": [0.5, 2.5], "stages": dict.fromkeys(STAGES, 2.0)}
    (output / LOG).write_text(json.dumps(values | {"score": score, "psnr_db": psnr_db}))


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
    halved = seeded(plain, seed, bfloat16=True)
    assert halved.pretrain.engine.bfloat16
    assert halved.finetune.engine.bfloat16
    assert halved.tokenizer == plan.tokenizer
    assert halved.pretrain.folder != plan.pretrain.folder


def test_the_stages_are_those_of_a_plan_in_its_order() -> None:
    assert list(STAGES) == [field.name for field in dataclasses.fields(EndToEnd)]


def test_a_seed_with_a_log_is_not_run_again(tmp_path: Path) -> None:
    write_log(tmp_path / "seed-4", score=0.9, psnr_db=30.0)
    record = run_seed(Path("/no/such/tree"), tmp_path, 4)
    assert (record.cpu_s, record.score, record.stages["finetune"]) == (15.0, 0.9, 2.0)


def test_figures_are_the_evaluations_own(tmp_path: Path) -> None:
    values = {"scene_geneval.overall": 0.94, "scene_geneval.counting": 0.1, "reconstruction.psnr_db": 31.5}
    scores = [{"metric": metric, "value": value} for metric, value in values.items()]
    (tmp_path / "report.json").write_text(json.dumps({"scores": scores}))
    assert figures(tmp_path) == (0.94, 31.5)


@pytest.mark.parametrize(
    ("last", "code"), [((0.92, 30.0), 0), ((0.919, 33.0), 1), ((0.99, 30.99), 0), ((0.92, 31.0), 0)]
)
def test_the_median_seed_must_meet_both_goals(
    last: tuple[float, float], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (score, psnr_db) in enumerate([(0.95, 31.2), (0.9, 31.4), last]):
        write_log(tmp_path / "here" / f"seed-{seed}", score=score, psnr_db=psnr_db)
    assert main(["--work", str(tmp_path)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| here | 0 | 15 | 10 | 0.950 | 31.20 |"
    assert len(lines) == 3


def test_a_median_below_a_goal_misses_it(tmp_path: Path) -> None:
    for seed, psnr_db in enumerate([30.9, 30.99, 35.0]):
        write_log(tmp_path / "here" / f"seed-{seed}", score=0.95, psnr_db=psnr_db)
    assert main(["--work", str(tmp_path)]) == 1


def test_the_ratio_is_the_median_seeds_to_the_other_trees_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, cpu_s in enumerate([2.0, 8.0, 3.0]):
        write_log(tmp_path / "here" / f"seed-{seed}", score=0.95, psnr_db=31.5, cpu_s=cpu_s)
    write_log(tmp_path / "beside" / "seed-0", score=0.9, psnr_db=31.5, cpu_s=6.0, wall_s=20.0)
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


def test_a_run_that_fails_says_why_and_has_no_log(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "infinity").mkdir(parents=True)
    (tree / "infinity" / "__init__.py").write_text("raise SystemExit('no recipe here')\n")
    with pytest.raises(RuntimeError, match="no recipe here"):
        run_seed(tree, tmp_path / "work", 0)
    assert not (tmp_path / "work" / "seed-0" / LOG).exists()
