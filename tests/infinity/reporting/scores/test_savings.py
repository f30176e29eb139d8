"""The page of savings: differences are paired, and a verdict is given only where the sample carries it."""

from __future__ import annotations

import numpy as np
import pytest

from infinity.evaluation.score import Score
from infinity.reporting.scores.savings import PairedChange, SavingsPage, SavingsRow, Verdict, savings_html
from tests.infinity.reporting.pages import HOSTILE, check_page

METRIC = "scene_geneval.overall"


def change(mean: float, half: float | None) -> PairedChange:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return PairedChange(mean=mean, low=low, high=high, n=100)


def row(
    name: str, mean: float = 0.0, half: float | None = 0.005, *, flops: int = 10**9, control: bool = False
) -> SavingsRow:
    score = Score(metric=METRIC, value=0.9 + mean, unit="share", n=400, protocol="p")
    return SavingsRow(
        name=name, is_control=control, flops=flops, weight_bytes=5 * 10**6, cache_bytes=10**5, score=score,
        change=change(mean, half), loss=None, loss_change=None, evaluation="/evaluation",
    )  # fmt: skip


ROWS = (
    row("exact", half=None), row("fewer", -0.002, flops=4 * 10**8), row("fewest", -0.2, 0.02, flops=10**8),
    row("few", -0.005, 0.03, flops=2 * 10**8), row("the control", -0.5, 0.05, control=True),
)  # fmt: skip
PAGE = SavingsPage(model="/model", metric=METRIC, margin=0.01, rows=ROWS)


def test_every_way_says_all_settings_and_its_command() -> None:
    rows = tuple(each.replace(sampling="top-p 0.9, seed 3", repeat=f"infinity run {each.name}") for each in ROWS)
    html = savings_html(SavingsPage(model="demo", metric=METRIC, margin=0.01, rows=rows))
    assert all(f"{row.name}: {row.sampling}<br><code>{row.repeat}</code>" in html for row in rows)


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [
        (0.0, None, "equal"), (-0.5, None, "loss"), (0.1, None, "no loss"), (-0.05, 0.02, "loss"),
        (-0.005, 0.004, "no loss"), (-0.005, 0.006, "not told"), (0.05, 0.1, "not told"), (-0.02, 0.015, "loss"),
        (0.1, 0.05, "no loss"),
    ],
)  # fmt: skip
def test_a_verdict_follows_the_interval_and_the_margin(mean: float, half: float | None, verdict: Verdict) -> None:
    assert change(mean, half).verdict(0.01) == verdict


def test_a_planted_loss_is_flagged_and_equal_drawings_are_not() -> None:
    """Prompts are right with probability 0.9; one way loses 5 points of them, one only draws other pictures."""
    numbers = np.random.Generator(np.random.PCG64(0))
    verdicts: dict[str, list[Verdict]] = {"loss": [], "other pictures": []}
    for _ in range(60):
        quality = numbers.beta(9, 1, 1000)
        exact, other = (numbers.binomial(4, quality) / 4 for _ in range(2))
        worse = numbers.binomial(4, np.clip(quality - 0.05, 0, 1)) / 4
        for name, drawn in (("loss", worse), ("other pictures", other)):
            values = [{METRIC: {str(n): float(v) for n, v in enumerate(each)}} for each in (exact, drawn)]
            verdicts[name].append(PairedChange.of(METRIC, *values).verdict(0.01))
    assert verdicts["loss"].count("loss") >= 57
    assert verdicts["other pictures"].count("loss") <= 4


def test_a_smaller_loss_is_a_gain_and_prompts_must_be_the_same() -> None:
    found = PairedChange.of(
        "validation.loss", {"validation.loss": {"a": 0.4, "b": 0.2}}, {"validation.loss": {"a": 0.3, "b": 0.1}}
    )
    assert found.mean == pytest.approx(0.1)
    with pytest.raises(ValueError, match="1 of 2 prompts have no value in both ways"):
        PairedChange.of(METRIC, {METRIC: {"a": 1.0}}, {METRIC: {"a": 1.0, "b": 1.0}})


def test_the_sentences_name_the_cheapest_way_without_a_loss() -> None:
    first, best, control = PAGE.summary()
    assert first == "1 of 3 ways lose quality, 1 lose at most 0.01, and for 1 the sample is too small to tell."
    assert best == "Fewest operations without such a loss: fewer (2.50 × fewer than exact drawing)."
    assert "is flagged" in control
    unseen = SavingsPage(
        model="/model", metric=METRIC, margin=0.01, rows=(*ROWS[:-1], row("c", -0.1, 0.2, control=True))
    )
    assert "NOT flagged" in unseen.summary()[-1]


def test_the_page_shows_every_way_with_its_interval() -> None:
    html = savings_html(PAGE)
    text = check_page(html, num_scripts=1)
    assert "2.50" in text
    assert "-0.2 (-0.22 to -0.18)" in text
    assert html.count('<line class="whisker') == 4


def test_names_are_text() -> None:
    check_page(
        savings_html(SavingsPage(model=HOSTILE, metric=METRIC, margin=0.01, rows=(ROWS[0], row(HOSTILE)))),
        num_scripts=1,
    )
