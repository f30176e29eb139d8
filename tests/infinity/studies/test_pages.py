"""Whatever is wrong with a page of one's own is one sentence that names the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.reporting.study import StudyRow
from infinity.studies.judging import judge_contrast
from infinity.studies.pages import load_study
from infinity.studies.study import better

PAGE = """from infinity.studies import Study, better

def arms(world, seed):
    {body}

STUDY = Study(name={name!r}, number=1, title="T", claim="C", source="S", arms=arms, contrasts=(better("a", "b", "m"),))
"""


def write(folder: Path, *, name: str = "mine", body: str = "return {}") -> str:
    path = folder / "my_page.py"
    path.write_text(PAGE.format(name=name, body=body))
    return str(path)


def said(*options: str) -> str:
    """What the command says, in one line; it must end as an error of the user's, without a trace."""
    done = CliRunner().invoke(app, ["study", *options, "--size", "mini", "--here"])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STUDY = (", "SyntaxError"),
        ("import nothing_of_this_name", "line 1 raised ModuleNotFoundError"),
        ("x = 1\n\ny = x / 0\n", "line 3 raised ZeroDivisionError"),
        ("x = 1\nraise SystemExit", "line 2 raised SystemExit"),
        ("import sys\nsys.exit('done')", "line 2 raised SystemExit: done"),
        ("STUDY = 5", "expected a page that sets STUDY to a Study, found int"),
        ("", "found NoneType"),
        ("\x00", "my_page.py"),
    ],
)
def test_a_page_that_cannot_be_run_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my_page.py"
    path.write_text(text)
    found = said(str(path), "-o", str(tmp_path / "out"))
    assert message in found
    assert "my_page.py" in found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}", "no arm 'a', 'b'"),
        ("return None", "as a dict of jobs, got NoneType"),
        ("return {'a': [], 'b': world.data()}", "arm 'a' needs a list of at least one job"),
        ("return {'a': ['x'], 'b': world.data()}", "arm 'a' needs a list of at least one job"),
        ("return {'a': world.wrong(), 'b': world.data()}", "AttributeError"),
        ("return {}['a']", "KeyError"),
        ("raise SystemExit(3)", "its arms raised SystemExit: 3"),
    ],
)
def test_arms_that_are_none_are_told(body: str, message: str, tmp_path: Path) -> None:
    found = said(write(tmp_path, body=body), "-o", str(tmp_path / "out"))
    assert "study mine" in found
    assert message in found


@pytest.mark.parametrize("name", ["", "Two words", "../up", "a/b", "ä"])
def test_a_name_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a name of a-z"):
        load_study(write(tmp_path, name=name))


@pytest.mark.parametrize("speed", ["0", "-3", "nan", "inf"])
def test_a_speed_that_is_none_is_refused(speed: str, tmp_path: Path) -> None:
    assert "--tflops: expected a speed above 0" in said("memory", "--estimate", "--tflops", speed, "-o", str(tmp_path))


def test_a_metric_that_no_arm_has_is_told_with_its_neighbours() -> None:
    rows = [StudyRow(arm=arm, seed=0, values={"validation.loss": 0.5, "score": 1.0}) for arm in "ab"]
    found = judge_contrast(better("a", "b", "validation_loss"), rows)
    assert found.verdict == "not told apart"
    assert found.why == "no arm has the metric 'validation_loss'; measured were validation.loss"
