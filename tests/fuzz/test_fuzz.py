"""Odd input at every door ends in a result or a sentence; the command tries far more of it."""

import pytest

from tests.fixtures.limits import AGES_S
from tests.fuzz.trials import EVERY_DOOR, knock
from tests.fuzz.world import World, build_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("door", EVERY_DOOR)
def test_odd_input_ends_in_a_result_or_a_sentence(world: World, door: str, exhaustive: bool) -> None:
    found = knock(door, world, seconds=600 if exhaustive else 0.3, seed=11, wall_s=AGES_S)
    assert found.trials > 3
    assert found.failures == {}


def test_a_traceback_and_a_hang_are_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_world: World, _rng: object) -> None:
        raise KeyError("a bug")

    def endless(_world: World, _rng: object) -> None:
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.trials.LIMIT_S", 0.2)
    for door, kind in ((broken, "KeyError"), (endless, "Hang")):
        monkeypatch.setitem(EVERY_DOOR, "broken", door)  # type: ignore[arg-type]
        found = knock("broken", world, seconds=0.5, seed=0)
        assert any(name.startswith(kind) for name in found.failures)
