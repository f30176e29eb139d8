"""Spec files of the paper's trainings are written where they are asked for, and can be read back."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.registry import load_spec
from infinity.jobs.training.transformer import TrainTransformerSpec
from tests.fixtures.data.small_world import write_model


def specs_of(folder: Path, *options: object) -> dict[str, TrainTransformerSpec]:
    """Specs that the command writes, by the names of their files; each file is named in what it prints."""
    command = ["transformer-specs", "manifest.parquet", "--specs", folder / "specs", "--output", folder / "out"]
    told = CliRunner().invoke(app, [str(each) for each in (*command, *options)])
    assert told.exit_code == 0, told.output
    found = {path.stem: load_spec(str(path)) for path in sorted((folder / "specs").iterdir())}
    for name, spec in found.items():
        assert f"{name}.json" in told.output
        assert isinstance(spec, TrainTransformerSpec)
        assert spec.folder in told.output.replace("\n", "")
    return found  # type: ignore[return-value]  # just checked


def test_three_stages_for_sixty_four_gpus_are_written(tmp_path: Path) -> None:
    found = specs_of(tmp_path, "--tokenizer", tmp_path / "tokenizer")
    assert len(found) == 3
    assert {spec.workers.num_workers for spec in found.values()} == {64}
    assert all(spec.workers.use_gpu for spec in found.values())
    assert {spec.tokenizer for spec in found.values()} == {str(tmp_path / "tokenizer")}


@pytest.mark.parametrize("cpu", [False, True])
def test_the_finetuning_is_on_gpus_unless_processors_are_asked_for(tmp_path: Path, cpu: bool) -> None:
    model = write_model(tmp_path / "model")
    found = specs_of(tmp_path, "--start-from", model, "--num-workers", 2, *(["--cpu"] if cpu else []))
    assert "finetune" in found
    assert found["finetune"].workers.use_gpu is not cpu
    assert {spec.workers.num_workers for spec in found.values()} == {2}
    assert found["finetune"].start_from == str(model)


def test_without_a_tokenizer_nothing_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = CliRunner().invoke(app, ["transformer-specs", "m", "--specs", str(tmp_path / "specs"), "--output", "o"])
    assert told.exit_code == 1
    assert "--tokenizer: expected the folder of the frozen tokenizer" in " ".join(told.output.split())
    assert not (tmp_path / "specs").exists()
