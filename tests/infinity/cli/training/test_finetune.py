"""``infinity finetune``: one command from captioned pictures to a finetuned model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.checkpoint import load_checkpoint
from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from tests.fixtures.data.small_world import write_model
from tests.fixtures.models.published_files import write_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    write_model(folder)
    for name in ("new", "old"):
        write_pictures(folder / name)
    return folder


def finetune(folder: Path, *options: object) -> tuple[int, str]:
    """Return the exit code and the output of a finetuning of two steps."""
    arguments = ["finetune", folder / "new", "--base", folder / "model", "-o", folder / "out", "--steps", 2, *options]
    with in_process():
        done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, done.output


@pytest.mark.slow
def test_pictures_become_a_model_and_an_adapter_and_again_nothing_is_computed(folder: Path) -> None:
    options = ("--batch-size", 2, "--rank", 2, "--trigger", "zork", "--prior", folder / "old", "--device", "cpu")
    code, output = finetune(folder, *options)
    assert code == 0, output
    assert "of memory, about" in output
    model = next((folder / "out").glob("transformer-*/model"))
    lines = [line for line in output.splitlines() if line.startswith("infinity generate")]
    assert lines[0] == f'infinity generate -c {model} -p "zork, …"'
    assert f"--lora {model.parent / 'adapter'}" in lines[1]
    before, after = (load_checkpoint(str(place)).tensors for place in (folder / "model", model))
    assert any(not (before[name] == after[name]).all() for name in before)
    stored = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}
    assert finetune(folder, *options)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_a_plan_builds_nothing_and_a_published_name_is_the_folder_that_pull_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "models").mkdir()
    (folder / "models" / "2b").symlink_to(folder / "model")
    code, output = finetune(folder, "-o", folder / "planned", "--base", "2b", "--plan")
    assert code == 0, output
    assert "for 2 steps" in output
    assert not (folder / "planned").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--base", "nowhere"), "expected a model folder"),
        (("--quantize-base", "int3"), "quantize: expected int8 or int4, got 'int3'"),
        (("--quantize-base", "int8", "--rank", 0), "expected adapters above quantized weights"),
        (("--base", "125M"), "run `infinity pull 125m` first"),
        (("--device", "tpu"), "--device: expected cpu or cuda, got 'tpu'"),
        (("--prior-weight", "1"), "prior_weight: expected above 0 to below 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    folder: Path,
    options: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(folder)
    code, _ = finetune(folder, *options)
    assert code == 1
    assert message in caplog.records[-1].getMessage()
    assert not (folder / "out" / "dataset").exists()
