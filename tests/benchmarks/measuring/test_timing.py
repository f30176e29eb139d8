"""What is timed in turn is compared turn by turn."""

from collections.abc import Callable

import pytest

from benchmarks.measuring import timing


def test_things_in_turn_are_compared_with_the_first_of_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down tenfold disturbs the seconds, not the ratio."""
    slowness = iter([1.0, 1.0, 10.0, 10.0, 2.0, 2.0])

    def clocked(run: Callable[[], object]) -> tuple[float, float]:
        seconds = run()
        assert isinstance(seconds, float)
        return seconds * next(slowness), seconds

    monkeypatch.setattr(timing, "seconds_of", clocked)
    found = timing.alternately({"plain": lambda: 4.0, "new": lambda: 3.0}, repeats=3)
    assert (found["plain"]["median_s"], found["plain"]["max_s"], found["plain"]["median_cpu_s"]) == (8.0, 40.0, 4.0)
    assert (found["new"]["ratio"], found["new"]["ratio_spread"], found["new"]["ratio_cpu"]) == (0.75, 0.0, 0.75)
    assert found["new"]["repeats"] == 3
    assert "ratio" not in found["plain"]


def test_one_timing_has_no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds_of", lambda run: (1.0, 1.0))
    assert timing.alternately({"plain": lambda: None}, repeats=1)["plain"]["spread_s"] == 0.0
