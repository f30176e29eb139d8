"""One picture through every door, in miniature; and a picture that differs is told."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.drawn import doors
from infinity.serving.app import PictureServer
from infinity.serving.settings import ServingConfig
from tests.fixtures.data.small_world import write_model
from tests.fixtures.servers.served_app import served


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["doors", *(str(each) for each in arguments)])
    with pytest.raises(SystemExit) as ended:
        doors.main()
    return ended.value.code


def test_every_door_gives_the_pixels_of_python(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(PictureServer(ServingConfig(model=model, device="cpu")).app) as address:
        assert command(monkeypatch, model, "--pictures", 8, "--cli", 2, "--clients", 3, "--server", address) == 0
    told = capsys.readouterr().out
    for door, count in (("random batches", 8), ("new process", 8), ("node", 8), ("command line", 2), ("server", 8)):
        assert f"{door}: 0 of {count} pictures differ" in told


def test_a_door_with_another_picture_is_told(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(model: str, wanted: list[doors.Wanted]) -> dict[int, np.ndarray]:
        found = dict(enumerate(result.pixels()[0].copy() for result in doors.drawn_alone(model, wanted)))
        found[1][0, 0, 0] ^= 1
        return found

    monkeypatch.setattr(doors, "through_node", other)
    monkeypatch.setattr(doors, "in_a_new_process", lambda model, wanted: {})
    assert command(monkeypatch, model, "--pictures", 3, "--cli", 0) == 1
    assert "node: 1 of 3 pictures differ" in capsys.readouterr().out


def test_wanted_pictures_are_those_of_their_seed_and_all_settings_come_up() -> None:
    found = doors.wanted_pictures(200, 3)
    assert found == doors.wanted_pictures(200, 3) != doors.wanted_pictures(200, 4)
    assert {item.ratio for item in found} == {0.5, 1.0, 2.0}
    assert {item.guidance for item in found} == {1.0, 2.0, 3.0}
    assert len({item.prompt for item in found}) > 100
