"""A sample of what ``python -m benchmarks.evaluation.gate`` simulates in full."""

import numpy as np
import pytest

from benchmarks.evaluation.gate import KINDS, SIZES, cells, fifty_nights, gains, simulate


@pytest.mark.parametrize(
    ("kind", "n"), [("lost", 10), ("lost", 15), ("related", 30), ("ceiling", 50), ("independent", 250)]
)
def test_the_promise_holds_where_it_is_hardest(kind: str, n: int) -> None:
    cell = simulate(kind, n, 0.08)
    assert cell.holds, cell


def test_the_promise_holds_in_every_cell(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("all cells take minutes; pass --exhaustive, or run python -m benchmarks.evaluation.gate")
    found = list(cells())
    assert len(found) == 2 * len(KINDS) * len(SIZES)
    assert [cell for cell in found if not cell.holds] == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_simulated_loses_what_it_should_on_the_mean(kind: str) -> None:
    random = np.random.default_rng(0)
    for loss in (0.0, 0.16, 0.5):
        assert gains(kind, 500, loss, random, trials=400).mean() == pytest.approx(-loss, abs=0.01)


@pytest.mark.parametrize("nights_per_protocol", [50, 7])
def test_fifty_nights_of_nearly_a_margin_do_not_slide_also_under_new_protocols(nights_per_protocol: int) -> None:
    course = fifty_nights(0.036, nights=50, nights_per_protocol=nights_per_protocol)
    assert max(course) - course[-1] <= 0.06
    assert len(course) == 50
