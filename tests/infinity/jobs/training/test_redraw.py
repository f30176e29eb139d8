"""A training is seen again from its stored states, as it was seen when they were stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infinity.checkpoint import CheckpointError, is_committed
from infinity.cli import app
from infinity.jobs.spec import begin
from infinity.jobs.training import redraw as redrawing
from infinity.jobs.training import worker as training_worker
from infinity.jobs.training.base import MODEL_FOLDER, TrainSpec
from infinity.jobs.training.redraw import Redrawn, redraw
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.training_sessions import ALONE, LOOP, make_tokenizer, session, tokenizer_spec, transformer_spec

SHORT = LOOP.replace(num_steps=6, log_every_steps=1, save_every_steps=3, sample_every_steps=3)


def trained(spec: TrainSpec) -> Path:
    """The folder of a training that a worker has done."""
    folder = begin(spec)
    training_worker.train_session(spec, session(spec), ALONE, lambda _share, _message: None, lambda: False)
    return Path(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished training of either kind."""
    place = tmp_path_factory.mktemp("trainings")
    manifest = make_data(place)
    tokenizer = make_tokenizer(place, manifest, num_steps=10)
    return {
        "tokenizer": trained(tokenizer_spec(place, manifest, loop=SHORT)),
        "transformer": trained(transformer_spec(place, manifest, tokenizer, loop=SHORT)),
    }


@pytest.mark.parametrize("kind", ["tokenizer", "transformer"])
@pytest.mark.parametrize("step", [3, None])
def test_sheet_rows_and_page_of_a_stored_state_come_back(
    folders: dict[str, Path], kind: str, step: int | None, tmp_path: Path
) -> None:
    folder = folders[kind]
    assert is_committed(str(folder / MODEL_FOLDER)), "the training has left its model"
    found = redraw(str(folder), str(tmp_path), step=step)
    at = step or 6
    assert found == Redrawn(at, *(str(tmp_path / name) for name in ("training.html", "samples.png", "metrics.jsonl")))
    assert Path(found.sheet).read_bytes() == (folder / "samples" / f"step-{at:08d}.png").read_bytes()
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in Path(found.metrics).read_text().splitlines()] == [
        json.loads(line) for line in rows[:at]
    ]
    assert list((tmp_path / "tensorboard").glob("events.*"))
    page = Path(found.page).read_text()
    assert f"State of step {at} of 6" in page
    assert "averaged weights" in page
    assert "data wait share" in page


def test_other_prompts_are_drawn_on_request(folders: dict[str, Path], tmp_path: Path) -> None:
    command = ["redraw", str(folders["transformer"]), "-o", str(tmp_path), "-p", "a green square"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "<li>a green square</li>" in (tmp_path / "training.html").read_text()
    printed = done.output.split()
    assert str(tmp_path / "training.html") in printed
    assert len(printed) == 3
    assert all(Path(each).exists() for each in printed), "page, sheet and metrics, which can be copied from here"


def test_states_that_are_not_there_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no stored state of step 4; there are: 3, 6"):
        redraw(str(folders["tokenizer"]), str(tmp_path), step=4)
    with pytest.raises(ValueError, match="draws reconstructions"):
        redraw(str(folders["tokenizer"]), str(tmp_path), prompts=("a cat",))


def test_a_running_training_may_drop_the_state_that_was_read(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "running"
    shutil.copytree(folders["tokenizer"], folder)
    make = redrawing._session

    def gets_on(*given: Any) -> Any:
        shutil.rmtree(folder / "state")
        return make(*given)

    monkeypatch.setattr(redrawing, "_session", gets_on)
    assert redraw(str(folder), str(tmp_path / "redrawn")).step == 6
