"""What a run will take is told before it begins, and what cannot fit is refused."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from flows.records.forecast import Prices, StageForecast, forecast, free_bytes, problems, shown
from flows.records.plan import new_plan
from infinity.jobs.training.base import STATE_FOLDER
from infinity.recipes.runs import EndToEnd
from infra.settings import REPOSITORY
from tests.fixtures.limits import AGES_S


@pytest.fixture
def plan(tmp_path: Path) -> EndToEnd:
    return new_plan("mini", None, str(tmp_path / "run"))


def test_stages_are_done_go_on_or_run_and_only_what_is_left_needs_anything(plan: EndToEnd) -> None:
    finished, begun = Path(plan.tokenizer.folder), Path(plan.pretrain.folder) / STATE_FOLDER / "step-00000013"
    begun.mkdir(parents=True)
    (begun / "COMMITTED").write_text("0123456789abcdef\n")
    finished.mkdir(parents=True)
    (finished / "report.json").write_text("{}")
    tokenizer, pretrain = forecast(plan, timed=False, names=("tokenizer", "pretrain"))
    assert (tokenizer.state, tokenizer.memory, tokenizer.disk, tokenizer.seconds) == ("done", 0, 0, None)
    assert pretrain.state == "goes on at step 13"
    assert pretrain.memory > 10**6
    assert pretrain.disk > 10**6
    assert list(problems([tokenizer, pretrain], plan, is_local=True)) == []


def test_a_training_that_no_machine_can_hold_is_refused_here_and_left_to_a_cluster(plan: EndToEnd) -> None:
    spec = plan.finetune
    width = spec.model.width * 1024  # a terabyte of weights, of which only the shapes are made
    large = plan.replace(finetune=spec.replace(model=spec.model.replace(width=width)))
    stages = forecast(large, timed=False, names=("finetune",))
    memory, disk = problems(stages, large, is_local=True)
    assert memory.startswith("finetune: its 1 workers need ")
    assert "free; use fewer workers" in memory
    assert list(problems(stages, large, is_local=False)) == [disk]


def test_outputs_for_which_there_is_no_disk_are_refused(plan: EndToEnd, tmp_path: Path) -> None:
    stage = StageForecast(name="pretrain", folder="x", state="runs", disk=2 * free_bytes(tmp_path))
    (said,) = problems([stage], plan, is_local=True)
    assert said.startswith("outputs: the stages need ")
    assert "make room" in said
    assert list(problems([dataclasses.replace(stage, disk=1)], plan, is_local=True)) == []
    bucket = new_plan("mini", None, "s3://bucket/run")
    assert list(problems([stage], bucket, is_local=True)) == []


def test_costs_follow_from_hours_devices_and_prices() -> None:
    stage = StageForecast(name="pretrain", folder="x", state="runs", seconds=7200.0, cpus=16, gpus=8)
    assert Prices(cpu_hour=0.05, gpu_hour=2.0).cost(stage) == pytest.approx(2 * (16 * 0.05 + 8 * 2.0))
    done = StageForecast(name="tokenizer", folder="x", state="done")
    row, _, last = shown([stage, done], Prices(gpu_hour=2.0))
    assert (row["time"], row["CPU hours"], row["GPU hours"], row["cost"]) == ("2.0 h", "32.00", "16.00", "32.00")
    assert (last["state"], last["cost"]) == ("1 of 2 done", "32.00")
    assert [each["cost"] for each in shown([stage], Prices())] == ["", ""]


@pytest.mark.slow
def test_the_command_shows_the_plan_and_runs_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--exhaustive"):
        pytest.skip("times three trainings; --exhaustive runs it")
    command = [sys.executable, "-m", "flows.demo", "--plan", "--recipe", "mini", "--run", str(tmp_path / "run")]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=AGES_S, check=False)
    assert ended.returncode == 0, ended.stderr
    for words in ("tokenizer", "pretrain", "finetune", "0 of 5 done", "GB"):
        assert words in ended.stdout
    assert not (tmp_path / "run").exists()
