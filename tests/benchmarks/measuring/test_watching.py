"""A function is watched in a process of its own."""

from __future__ import annotations

import pytest

from benchmarks.measuring.watching import call, watch


def add(one: int, other: int | None) -> dict[str, int]:
    """Say that the work begins and ends, and return a sum; refuse None."""
    print("begin")
    if other is None:
        raise ValueError("expected a number, got none")
    print("end")
    return {"sum": one + other}


def test_a_function_tells_its_result_beside_what_its_process_took() -> None:
    figures = watch(call(f"{__name__}:add", 2, 3), every_s=0.05).figures()
    assert figures["sum"] == 5
    assert figures["wall_s"] >= 0.0
    assert figures["cpu_s"] >= 0.0
    assert {"peak_mib", "largest_process_mib", "load"} <= figures.keys()


def test_a_function_that_fails_ends_the_benchmark_with_its_words() -> None:
    with pytest.raises(RuntimeError, match="expected a number, got none"):
        watch(call(f"{__name__}:add", 2, None), every_s=0.05)
