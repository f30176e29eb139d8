"""What is timed in turn is compared turn by turn."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def test_a_function_within_a_context_enters_a_new_one_each_time() -> None:
    seen: list[str] = []

    @contextmanager
    def context() -> Iterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    run = timing.within(context, lambda: seen.append("run"))
    run()
    run()
    assert seen == ["in", "run", "out"] * 2


def test_a_function_apart_runs_in_another_process_and_its_error_arrives() -> None:
    assert timing.apart(os.getpid) != os.getpid()
    assert timing.apart(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        timing.apart(divmod, 7, 0)
