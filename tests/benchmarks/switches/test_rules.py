"""Rules of the table of switches: what they take for the same, and what they find."""

from dataclasses import replace

import pytest

from benchmarks.switches.rules import (
    EARLY,
    EARLY_LIMIT,
    NUM_SEEDS,
    TIMES_ROUNDING,
    Rule,
    SwitchRow,
    SwitchRun,
    rules,
    table,
)

ROUNDING = 2e-7
CONTROL = SwitchRun(losses=(0.5,) * (2 * EARLY), weights="a", held=0.4, averaged=0.41, seconds=0.01)


def moved(step: int, by: float) -> SwitchRun:
    """The control with one loss of another value."""
    losses = [*CONTROL.losses]
    losses[step] += by
    return replace(CONTROL, losses=tuple(losses))


def row(rule: Rule, *pairs: tuple[SwitchRun, SwitchRun]) -> SwitchRow:
    """A row of these trainings."""
    return SwitchRow("a switch", rule, pairs, rounding=(ROUNDING, ROUNDING))


@pytest.mark.parametrize("within", [moved(2 * EARLY - 1, 1e-16), replace(CONTROL, weights="b")])
def test_where_no_bit_may_change_one_bit_of_a_loss_or_of_the_weights_is_found(within: SwitchRun) -> None:
    assert row("bits", (CONTROL, CONTROL)).same
    assert within.losses != CONTROL.losses or within.weights != CONTROL.weights
    assert not row("bits", (CONTROL, within)).same


@pytest.mark.parametrize(
    ("step", "by", "same"),
    [
        (0, 0.9 * EARLY_LIMIT, True),
        (EARLY - 1, 1.1 * EARLY_LIMIT, False),
        (EARLY, 0.9 * TIMES_ROUNDING * ROUNDING, True),
        (EARLY, 1.1 * TIMES_ROUNDING * ROUNDING, False),
        (EARLY, -1.1 * TIMES_ROUNDING * ROUNDING, False),
    ],
)
def test_rounding_has_a_limit_at_first_and_one_by_what_it_does_to_the_control(step: int, by: float, same: bool) -> None:
    assert row("rounding", (CONTROL, moved(step, by))).same is same


@pytest.mark.parametrize(("factor", "same"), [(0.9, True), (1.1, False), (-1.1, False)])
def test_results_over_seeds_may_differ_by_the_spread_of_the_controls(factor: float, same: bool) -> None:
    controls = [replace(CONTROL, held=0.4 + 0.01 * seed) for seed in range(NUM_SEEDS)]
    spread = 0.01 * (NUM_SEEDS * (NUM_SEEDS + 1) / 12) ** 0.5  # of 0, 1, 2, ..., by n - 1
    pairs = [(each, replace(each, held=(each.held or 0.0) + factor * spread)) for each in controls]
    found = row("seeds", *pairs)
    assert found.spread == pytest.approx(spread)
    assert found.mean_difference == pytest.approx(factor * spread)
    assert found.same is same


def test_a_fault_that_was_planted_has_to_be_found() -> None:
    fault = replace(row("bits", (CONTROL, moved(0, 1.0))), planted=True)
    assert (fault.verdict, replace(fault, planted=False).verdict) == ("found", "DIFFERENT")
    assert replace(row("bits", (CONTROL, CONTROL)), planted=True).verdict == "missed"


def test_the_table_has_every_row_under_its_rule() -> None:
    two = replace(CONTROL, held=None, averaged=None, weights="")
    rows = [row("rounding", (CONTROL, two)), row("seeds", (CONTROL, CONTROL), (replace(CONTROL, held=0.5), CONTROL))]
    page = "\n".join([*rules(4), *table(rows)])
    assert page.count("| a switch |") == 2
    assert "## Only rounding may change" in page
    assert "## No bit may change" not in page
