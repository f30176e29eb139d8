"""``infinity registry``: look at champions, and roll back."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.promotion.champions import Champions
from tests.fixtures.jobs.evaluations import write_mark


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champions:
    monkeypatch.setenv("INFINITY_RUNS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("INFINITY_REGISTRY", raising=False)
    return Champions(str(tmp_path / "registry"))


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["registry", *args], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def promote(champions: Champions, folder: Path, *names: str) -> None:
    for name in names:
        model, digest = write_mark(folder, name)
        champions.promote(
            "demo", follows=champions.champion("demo"), model=model, model_digest=digest, evaluation="/e", scores=(),
            why=f"because of {name}",
        )  # fmt: skip


def test_show_and_roll_back(registry: Champions, tmp_path: Path) -> None:
    assert run("show") == (0, f"no champions in {registry.root}")
    promote(registry, tmp_path, "a", "b")
    code, output = run("show")
    assert code == 0
    assert "because of b" in output
    assert "because of a" not in output
    code, output = run("rollback", "demo", "--why", "b is blurred")
    assert code == 0
    assert "transformer-a/model" in output
    assert "record 3" in output
    code, output = run("show", "demo")
    assert "because of a" in output
    assert "back to record 1: b is blurred" in output
    assert "is not promoted again automatically: rolled back by" in output


def test_wrong_names_are_one_clear_line(registry: Champions, tmp_path: Path) -> None:
    promote(registry, tmp_path, "a")
    for arguments, words in (
        (("show", "other"), "no champion of 'other'; families: demo"),
        (("rollback", "other"), "has no champion; there are champions of demo"),
        (("rollback", "demo"), "never had another champion"),
        (("rollback", "demo", "--to", "7"), "no record 7"),
    ):
        code, output = run(*arguments)
        assert code == 1
        assert words in output
        assert "Traceback" not in output
