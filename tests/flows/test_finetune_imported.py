"""The form of the flow `finetune` begins with an imported model, in a run that was not there before."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flows.finetune import finetune
from flows.records.plan import beginning_with, changed, load_plan, new_plan
from infinity.checkpoint import load_checkpoint
from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from tests.fixtures.models.published_files import write_pictures, write_published, write_t5


def _imported(folder: Path) -> Path:
    write_published(folder)
    write_t5(folder / "t5")
    published = (
        ("import-tokenizer", folder / "vae.pth", folder / "tokenizer"),
        ("import-transformer", folder / "model.pth", folder / "tokenizer", folder / "model", "--size", "256",
         "--text-model", folder / "t5"),
    )  # fmt: skip
    for arguments in published:
        result = CliRunner().invoke(app, ["published", *map(str, arguments)])
        assert result.exit_code == 0, result.output
    return folder / "model"


def test_a_finetuning_of_an_imported_model_keeps_its_shape_when_other_stages_change(tmp_path: Path) -> None:
    model = _imported(tmp_path)
    plan = new_plan("mini", None, str(tmp_path / "run"))
    begun = changed(plan, {"finetune": lambda spec: beginning_with(spec, str(model))})
    assert begun.finetune.start_from == str(model)
    assert begun.finetune.model.width == 64
    assert begun.finetune.resolution.size == "256"
    assert begun.finetune.tokenizer == str(model / "tokenizer")
    assert begun.evaluation.model.startswith(begun.finetune.folder)
    assert changed(begun, {}) == begun
    with pytest.raises(ValueError, match="expected a checkpoint folder"):
        beginning_with(plan.finetune, str(tmp_path / "none"))


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.parametrize(
    "rank", [None, pytest.param(2, marks=pytest.mark.exhaustive("adapters are trained in tests/infinity/cli/training"))]
)
def test_the_form_finetunes_an_imported_model(tmp_path: Path, prefect_server: str, rank: int | None) -> None:
    model, run = _imported(tmp_path), tmp_path / "run"
    write_pictures(tmp_path / "pictures")
    boxes = {"num_steps": 2, "batch_size": 2, "num_parts": 1, "num_workers": 1, "threads": 1, "adapter_rank": rank}
    parameters = {"run": str(run), "data": str(tmp_path / "pictures"), "model": str(model), "transformer": boxes}
    assert finetune.validate_parameters(parameters)  # what the form sends is JSON
    with in_process():
        state = finetune(**finetune.validate_parameters(parameters), return_state=True)
    assert state.is_completed(), state.message
    plan = load_plan(str(run))
    assert (plan.finetune.adapters is None) == (rank is None)
    before, after = (load_checkpoint(uri).tensors for uri in (str(model), f"{plan.finetune.folder}/model"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
