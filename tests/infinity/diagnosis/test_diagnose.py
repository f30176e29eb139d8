"""A training of the recipe "mini" is healthy; each planted fault is named first, with its evidence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from infinity import storage
from infinity.cli import app
from infinity.diagnosis.diagnose import caption_steps, diagnose
from infinity.diagnosis.findings import REMEDIES, LikelyCause
from infinity.diagnosis.pictures import caption_findings, data_findings, tokenizer_findings
from infinity.diagnosis.weights import rounded_share, unmoved, weight_findings
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.registry import run_spec
from infinity.jobs.spec import begin
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.jobs.training.worker import judgement
from infinity.recipes.runs import end_to_end
from infinity.reporting.plots.curves import read_curves
from infinity.reporting.plots.reference import reference_for
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.transformer import Transformer
from tests.fixtures.models.tiny_transformer import tiny_config

SEED = 77
"""A seed that the shipped curves do not have."""


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> TrainTransformerSpec:
    """A finished pretraining of the recipe "mini"."""
    specs = end_to_end("mini", source=None, output=str(tmp_path_factory.mktemp("mini")))
    tokenizer = specs.tokenizer.replace(seed=SEED)
    pretrain = specs.pretrain.replace(seed=SEED, tokenizer=storage.join(tokenizer.folder, MODEL_FOLDER))
    with in_process():
        for spec in (specs.dataset, tokenizer, pretrain):
            run_spec(spec)
    return pretrain


def planted(spec: TrainTransformerSpec, folder: Path, **changes: Any) -> str:
    """The files of a finished run with other settings in its spec."""
    copy = folder / "run"
    shutil.copytree(spec.folder, copy)
    written = spec.replace(**changes).to_file()
    (copy / "spec.json").write_text(json.dumps(written))
    return str(copy)


@pytest.mark.slow
def test_a_healthy_run_raises_no_alarm(healthy: TrainTransformerSpec) -> None:
    found = diagnose(healthy.folder)
    assert found.is_healthy, found.sentence
    assert found.reference == "mini, pretrain"
    assert "healthy at step 20 of 20" in found.sentence
    assert "weights" in found.looked_at
    done = CliRunner().invoke(app, ["diagnose", healthy.folder, "--no-pictures"])
    assert done.exit_code == 0, done.output


def rate(spec: TrainTransformerSpec, factor: float) -> OptimizerConfig:
    return spec.optimizer.replace(learning_rate=factor * spec.optimizer.learning_rate)


SETTINGS: dict[str, Callable[[TrainTransformerSpec], dict[str, Any]]] = {
    "learning rate too high": lambda s: {"optimizer": rate(s, 10.0)},
    "learning rate too low": lambda s: {"optimizer": rate(s, 0.1)},
    "guidance trained away": lambda s: {"model": s.model.replace(condition_drop=0.0)},
    "self-correction off": lambda s: {"self_correction": 0.0},
    "wrong resolution table": lambda s: {"resolution": s.resolution.replace(sides=(1, 3, 4))},
    "text features of another encoder": lambda s: {"text": s.text.replace(seed=5)},
    "data order not shuffled": lambda s: {"order": s.order.replace(window_pictures=1)},
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", SETTINGS)
def test_a_setting_that_is_a_known_fault_is_named_first(
    cause: str, healthy: TrainTransformerSpec, tmp_path: Path
) -> None:
    folder = planted(healthy, tmp_path, **SETTINGS[cause](healthy))
    found = diagnose(folder, with_pictures=False)
    assert found.findings[0].cause == cause
    assert found.findings[0].evidence in found.sentence
    assert CliRunner().invoke(app, ["diagnose", folder, "--no-pictures"]).exit_code == 2


def test_flips_that_no_label_undoes_are_self_correction_switched_off(
    healthy: TrainTransformerSpec, tmp_path: Path
) -> None:
    found = diagnose(planted(healthy, tmp_path, flips_only=True), with_pictures=False)
    assert found.findings[0].cause == "self-correction off"


@pytest.mark.slow
def test_a_run_with_a_rate_of_almost_nothing_is_told_while_it_runs(
    healthy: TrainTransformerSpec, tmp_path: Path
) -> None:
    """A real training: its loss stays where it began, outside the band, and the run page says so."""
    slow = healthy.replace(output=str(tmp_path), optimizer=rate(healthy, 0.001))
    with in_process():
        run_spec(slow)
    found = diagnose(slow.folder, with_pictures=False)
    assert found.findings[0].cause == "learning rate too low"
    assert any("the band since step" in each for each in found.departures)
    points = read_curves(f"{slow.folder}/metrics.jsonl")["loss"]
    rows = [{"step": step, "loss": loss} for step, loss in points]
    told = judgement(rows, reference_for(slow.kind, slow.to_json()))
    assert "loss above the band since step" in told
    assert judgement(rows, None) == ""


def test_weights_that_were_rounded_to_bfloat16_are_seen_and_float32_ones_are_not() -> None:
    weights = {name: torch.randn(50, 20, generator=torch.Generator().manual_seed(n)) for n, name in enumerate("abc")}
    assert rounded_share(weights) < 0.01
    rounded = {name: value.bfloat16().float() for name, value in weights.items()}
    assert rounded_share(rounded) == 1.0
    assert [each.cause for each in weight_findings(rounded, None)] == ["bf16 master weights"]
    assert not weight_findings(weights, None)
    assert rounded_share({"zeros": torch.zeros(5), "numbers": torch.arange(3)}) == 0.0


def test_weights_that_never_moved_are_seen() -> None:
    model = Transformer(tiny_config())
    model.init_weights(torch.Generator().manual_seed(0))
    initial = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    moved = {name: weight + 1e-6 * (1 + weight.abs()) for name, weight in initial.items()}
    assert not weight_findings(moved, initial)
    frozen = moved | {name: weight for name, weight in initial.items() if name.startswith("blocks.")}
    (found,) = weight_findings(frozen, initial)
    assert found.cause == "frozen weights"
    assert unmoved(frozen, initial)[0] > 0.5
    stored = {name: weight for name, weight in moved.items() if not name.startswith("blocks.")}
    (absent,) = weight_findings(stored, initial)
    assert absent.cause == "frozen weights", "a stored state leaves frozen weights out"


def test_pictures_tell_channels_from_foreign_tokenizers() -> None:
    assert [each.cause for each in tokenizer_findings(20.0, 25.0, 26.0)] == ["wrong channel order"]
    assert [each.cause for each in tokenizer_findings(20.0, 20.5, 26.0)] == ["another tokenizer"]
    assert not tokenizer_findings(25.0, 20.0, 26.0)
    assert not tokenizer_findings(25.0, 20.0, None)
    assert [each.cause for each in caption_findings([0.5, 0.6], [0.5, 0.6])] == ["captions shuffled"]
    assert not caption_findings([0.5, 0.6], [0.55, 0.66])


def test_a_tokenizer_of_another_data_set_is_told_by_its_origin_wherever_both_lie() -> None:
    (found,) = data_findings("s3://b/dataset-12/manifest.parquet", "/runs/dataset-34/manifest.parquet")
    assert found.cause == "another tokenizer"
    assert "dataset-34" in found.evidence
    assert not data_findings("s3://b/dataset-12/manifest.parquet", "/runs/dataset-12/manifest.parquet")
    assert not data_findings("/runs/dataset-12/manifest.parquet", "")


def test_a_finding_names_a_known_fault_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        LikelyCause(cause="bad luck", certainty=0.5, evidence="")
    assert all(REMEDIES.values())
    assert set(SETTINGS) < set(REMEDIES)


def test_a_folder_that_is_no_training_is_refused_in_one_sentence(healthy: TrainTransformerSpec, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["diagnose", str(tmp_path)])
    assert done.exit_code == 1
    assert "spec.json" in done.output
    specs = end_to_end("mini", source=None, output=str(tmp_path))
    (tmp_path / "spec.json").write_text(json.dumps(specs.dataset.to_file()))
    with pytest.raises(ValueError, match="expected the folder of a training"):
        diagnose(str(tmp_path))
    (tmp_path / "spec.json").write_text(json.dumps(specs.pretrain.to_file()))
    with pytest.raises(ValueError, match="nothing was logged yet"):
        diagnose(str(tmp_path))


def test_captions_are_judged_within_the_demos_pretraining_and_from_the_first_step_of_a_finetuning() -> None:
    demo = end_to_end("demo", source=None, output="run")
    assert 0 < caption_steps(demo.pretrain) < demo.pretrain.loop.num_steps
    assert caption_steps(demo.finetune) == 0
    mini = end_to_end("mini", source=None, output="run")
    assert caption_steps(mini.pretrain) > mini.pretrain.loop.num_steps, "it learns too little to be judged"


@pytest.mark.slow
def test_curves_of_other_pictures_are_not_judged_by_the_recipes(healthy: TrainTransformerSpec, tmp_path: Path) -> None:
    slow = planted(healthy, tmp_path, manifest=str(tmp_path / "dataset-0" / "manifest.parquet"))
    rows = [{"step": step, "loss": 9.0} for step in range(1, 21)]
    Path(slow, "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = diagnose(slow, with_pictures=False)
    assert found.departures == ()
    assert found.not_judged[0] == "curves, since the recipe mini has other pictures"
    assert "curves" not in found.looked_at
    assert found.reference == "mini, pretrain"


def test_a_folder_that_is_no_trainings_is_refused_and_those_inside_are_named(tmp_path: Path) -> None:
    plan = end_to_end("mini", source=None, output=str(tmp_path))
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"spec\.json: is not there; expected the folder of a training$"):
            diagnose(str(folder))
    for spec in (plan.dataset, plan.tokenizer, plan.pretrain):
        begin(spec)
    with pytest.raises(ValueError, match=r"such as .*tokenizer-.*, .*transformer-"):
        diagnose(str(tmp_path))
    with pytest.raises(ValueError, match="job of kind 'dataset'"):
        diagnose(plan.dataset.folder)
    with pytest.raises(ValueError, match="nothing was logged yet"):
        diagnose(plan.pretrain.folder)


@pytest.mark.slow
def test_a_state_before_the_second_update_says_nothing_about_frozen_weights(
    healthy: TrainTransformerSpec, tmp_path: Path
) -> None:
    folder = planted(healthy, tmp_path)
    states = sorted(Path(folder, "state").glob("step-*"))
    assert "weights" in diagnose(folder, with_pictures=False).looked_at
    for state in states[1:]:
        shutil.rmtree(state)
    states[0].rename(states[0].with_name("step-00000001"))
    assert "weights" not in diagnose(folder, with_pictures=False).looked_at


@pytest.mark.slow
def test_what_cannot_be_judged_is_said_and_the_rest_is_judged(healthy: TrainTransformerSpec, tmp_path: Path) -> None:
    gone = str(tmp_path / Path(healthy.manifest).parent.name / "manifest.parquet")
    folder = planted(healthy, tmp_path, manifest=gone, optimizer=rate(healthy, 10.0))
    found = diagnose(folder)
    assert found.findings[0].cause == "learning rate too high"
    assert found.looked_at == ("curves", "settings of the recipe mini", "weights")
    assert found.not_judged[0].startswith("pictures and captions, since ")
    assert gone in found.sentence
    shutil.rmtree(Path(folder, "state"))
    assert "weights, since no state after 2 updates is stored" in diagnose(folder, with_pictures=False).not_judged


@pytest.mark.slow
def test_a_run_of_no_recipe_is_not_said_to_have_healthy_curves(healthy: TrainTransformerSpec, tmp_path: Path) -> None:
    folder = planted(healthy, tmp_path, loop=healthy.loop.replace(batch_size=16))
    found = diagnose(folder, with_pictures=False)
    assert found.sentence.startswith("healthy at step 20 of 20: weights show nothing wrong. Not judged: curves and ")
    shutil.rmtree(Path(folder, "state"))
    assert diagnose(folder, with_pictures=False).sentence.startswith("step 20 of 20: nothing could be judged. Not ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no loss"),
        ('{"step": 3, "grad_norm": 1.0}\n', "holds no loss"),
        ('{"step": 1, "loss": 0.7}\n{"step": 2, "lo', "line 2"),
        ('{"loss": 0.7}\n', "expected an object with a step"),
        ("\xff", "metrics.jsonl"),
    ],
)
def test_damaged_metrics_are_named_with_their_place(
    text: str, message: str, healthy: TrainTransformerSpec, tmp_path: Path
) -> None:
    folder = planted(healthy, tmp_path)
    Path(folder, "metrics.jsonl").write_bytes(text.encode("latin-1"))
    done = CliRunner().invoke(app, ["diagnose", folder, "--no-pictures"])
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
