"""``infinity fleet`` says what lies below a root, also where nothing does or a plan is damaged."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app


def test_an_empty_root_is_said_and_is_an_empty_list(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        told = CliRunner().invoke(app, ["fleet", str(place)])
        assert (told.exit_code, told.stdout) == (0, "")
        assert told.stderr.split() == f"no run lies below {place}".split()
        assert json.loads(CliRunner().invoke(app, ["fleet", str(place), "--json"]).stdout) == []


def test_a_damaged_run_stands_beside_the_others(tmp_path: Path) -> None:
    for name, data in (("good", b"{}"), ("torn", b"{"), ("wrong", b"\xff\xfe\x00")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes(data)
    told = CliRunner().invoke(app, ["fleet", str(tmp_path)])
    assert told.exit_code == 0
    assert {line.split()[0] for line in told.stdout.splitlines() if not line.startswith(" ")} == {
        "good",
        "torn",
        "wrong",
    }
    assert told.stdout.count("its plan cannot be read by this version") == 2


@pytest.mark.parametrize("command", ["fleet", "metrics"])
@pytest.mark.parametrize("option", ["--cpu-hour", "--gpu-hour"])
@pytest.mark.parametrize("price", ["nan", "inf", "-1"])
def test_a_price_is_a_number(tmp_path: Path, command: str, option: str, price: str) -> None:
    told = CliRunner().invoke(app, [command, str(tmp_path), f"{option}={price}"])
    assert told.exit_code == 1
    assert f"{option}: expected a number of at least 0" in " ".join(told.output.split())
