"""``infinity estimate`` and ``transformer-specs``: from the paper's stages to a table, without a trace."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.cli.training.estimate import _rows, _trainings
from infinity.jobs.estimate import estimate as estimating
from infinity.jobs.estimate.estimate import Calibration, Estimate
from infinity.recipes.runs import end_to_end

FOUND = Estimate(
    weights=10**9,
    gradients=10**9,
    optimizer=2 * 10**9,
    average=0,
    activations=5 * 10**9,
    logits=10**6,
    frozen=10**9,
    saving=3 * 10**9,
    process=0,
    seconds_per_step=None,
    flops_per_step=10**12,
    num_steps=7200,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What was asked of the estimate, which answers at once."""
    calls: list[dict[str, object]] = []

    def estimate(spec, assumed, *, tokenizer, calibration):  # type: ignore[no-untyped-def]
        calls.append({"stage": spec.stage, "assumed": assumed, "tokenizer": tokenizer, "calibration": calibration})
        seconds = assumed.flops_per_s and FOUND.flops_per_step / assumed.flops_per_s
        return FOUND.replace(seconds_per_step=calibration.seconds_per_step if calibration else seconds)

    monkeypatch.setattr(estimating, "estimate", estimate)
    quick = Calibration(process=1, seconds_per_step=0.5, processor_seconds=0.4)
    monkeypatch.setattr(estimating, "calibrate", lambda *_, **__: quick)
    return calls


def test_a_stage_of_the_paper_for_a_gpu(tmp_path: Path, asked: list[dict[str, object]]) -> None:
    runner = CliRunner()
    written = runner.invoke(
        app, ["transformer-specs", "m.parquet", "--tokenizer", "t", "--specs", str(tmp_path), "--output", str(tmp_path)]
    )
    assert written.exit_code == 0, written.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pretrain-1024.json",
        "pretrain-256.json",
        "pretrain-512.json",
    ]
    spec = str(tmp_path / "pretrain-1024.json")
    told = runner.invoke(app, ["estimate", spec, "--tokenizer", "d32", "--tflops", "2", "--json"])
    assert told.exit_code == 0, told.output
    (figures,) = json.loads(told.output).values()
    assert figures["device_bytes"] == 10 * 10**9
    assert figures["total_bytes"] == 13 * 10**9
    assert figures["seconds_per_step"] == 0.5
    assert asked[0]["calibration"] is None  # a GPU is not timed on a CPU


def test_all_trainings_of_a_recipe_with_a_calibration(asked: list[dict[str, object]]) -> None:
    told = CliRunner().invoke(app, ["estimate", "--recipe", "mini"])
    assert told.exit_code == 0, told.output
    assert [call["stage"] for call in asked] == ["tokenizer", "pretrain", "finetune"]
    assert asked[1]["tokenizer"] is not None
    assert "seconds per step" in told.output
    assert "10.00" in told.output  # GB of a step


@pytest.mark.parametrize("arguments", [[], ["spec.json", "--recipe", "mini"]])
def test_exactly_one_thing_is_estimated(arguments: list[str]) -> None:
    told = CliRunner().invoke(app, ["estimate", *arguments])
    assert told.exit_code != 0
    assert "either the spec file" in told.output


def test_hours_are_those_of_all_steps_and_bytes_are_gigabytes() -> None:
    rows = {name: cells for name, *cells in _rows({"one": FOUND.replace(seconds_per_step=2.0), "two": FOUND})}
    assert rows["hours in all"] == ["4", "not known"]
    assert rows["seconds per step"] == ["2", "not known"]
    assert rows["activations"] == ["5.00", "5.00"]
    assert rows["of these, logits"] == ["0.001", "0.001"]


def test_a_tokenizers_spec_is_a_training_of_its_own(tmp_path: Path) -> None:
    spec = end_to_end("mini", source=None, output=str(tmp_path)).tokenizer
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec.to_file()))
    assert _trainings(str(file), None, None) == [(spec.stage, spec, None)]
