"""``infinity watermark``: keys are made once and never shown; a picture is looked at or named as no picture."""

import stat
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from tests.fixtures.data.small_world import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["watermark", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.effect_noise((40, 40), 60).convert("RGB").save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_new_key_is_its_owners_alone_and_is_not_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    shown = command("new-key", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "key " in shown
    assert key.read_text().strip() not in shown


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    key = tmp_path / "key"
    command("new-key", key)
    before = key.read_bytes()
    assert "a key is never replaced" in command("new-key", key, code=1)
    assert key.read_bytes() == before


def test_a_key_in_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    shown = command("new-key", tmp_path / "absent" / "key", code=1)
    assert "absent" in shown
    assert "Traceback" not in shown


def test_a_picture_without_the_watermark_is_said_to_have_none(model: str, picture: Path, tmp_path: Path) -> None:
    command("new-key", tmp_path / "key")
    shown = command("detect", picture, "-c", model, "--key-file", tmp_path / "key")
    assert "no watermark found, p = 10^" in shown
    assert "pairs" in shown


def test_a_key_may_come_from_the_environment(
    model: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("new-key", tmp_path / "key")
    monkeypatch.setenv("MARK", (tmp_path / "key").read_text())
    by_file = command("detect", picture, "-c", model, "--key-file", tmp_path / "key")
    assert command("detect", picture, "-c", model, "--key-file", "env:MARK") == by_file


@pytest.mark.parametrize("threshold", ["0", "1", "nan", "-1"])
def test_a_threshold_is_a_probability(model: str, picture: Path, tmp_path: Path, threshold: str) -> None:
    command("new-key", tmp_path / "key")
    shown = command("detect", picture, "-c", model, "--key-file", tmp_path / "key", f"--threshold={threshold}", code=1)
    assert "--threshold: expected a probability above 0 and below 1" in shown


@pytest.mark.parametrize("key", ["env:NOT_SET_ANYWHERE", "absent.key"])
def test_a_key_that_is_not_there_is_one_sentence(model: str, picture: Path, key: str) -> None:
    shown = command("detect", picture, "-c", model, "--key-file", key, code=1)
    assert "Traceback" not in shown
    assert key.removeprefix("env:") in shown


def test_what_is_no_picture_is_named(model: str, tmp_path: Path) -> None:
    command("new-key", tmp_path / "key")
    (tmp_path / "notes.png").write_text("no picture")
    shown = command("detect", tmp_path / "notes.png", "-c", model, "--key-file", tmp_path / "key", code=1)
    assert "notes.png: expected a picture" in shown
