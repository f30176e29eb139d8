"""The page of a study: its verdict, every contrast and arm, the paper's figures beside ours, and a figure that fits."""

from __future__ import annotations

import re

import pytest

from infinity.reporting.study import (
    ContrastResult,
    Cost,
    PaperFigure,
    StudyResult,
    StudyRow,
    Verdict,
    rounded,
    studies_html,
    study_html,
)
from tests.infinity.reporting.pages import check_page

COST = Cost(estimated_s=120.0, spent_s=90.0, jobs_s=240.0, num_jobs=4, num_done_before=1)
CONTRAST = ContrastResult(
    name="bits beat indices", rule="> 0", per_seed={"0": 0.1, "1": 0.3}, mean=0.2, low=-0.1, high=0.5, sign_p=0.25,
    verdict="not told apart", why="the interval holds 0",
)  # fmt: skip
SUMMARIES = {"loss": {"bits 16": (0.4, 0.05, 2), "indices 16": (0.6, None, 1)}, "fid": {"bits 16": (12.0, None, 1)}}


def row(arm: str, seed: int, loss: float) -> StudyRow:
    return StudyRow(arm=arm, seed=seed, values={"loss": loss})


def study(verdict: Verdict = "holds", **changes: object) -> StudyResult:
    plain = StudyResult(
        name="heads", number=3, title="Bits or indices?", claim="A head of bits learns faster.", source="Table 4",
        size="mini", seeds=(0, 1), metric="loss", verdict=verdict, reason="too few steps", contrasts=(CONTRAST,),
        rows=(row("bits 16", 0, 0.41), row("bits 16", 1, 0.39), row("indices 16", 0, 0.6)),
        paper=(PaperFigure(arm="indices 16", metric="loss", value=None, source="Table 4"),), cost=COST,
    )  # fmt: skip
    return plain.replace(**changes)


def cells(page: str) -> list[list[str]]:
    """Every row of every table as texts."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", each, re.DOTALL) for each in rows]


def lines(page: str) -> set[str]:
    """Names of the lines of the figure."""
    return set(re.findall(r"\b(?:\w+, )?seed \d", page.partition("<h2>")[0]))


def test_a_result_comes_back_from_its_file() -> None:
    assert StudyResult.parse(study().dump()) == study()


def test_arms_come_once_and_in_the_order_of_the_rows() -> None:
    assert study().arms == ["bits 16", "indices 16"]


def test_every_arm_has_its_mean_spread_and_number_of_seeds_or_says_that_there_is_none() -> None:
    found = cells(study_html(study(), SUMMARIES))
    assert ["arm", "loss", "fid"] in found
    bits = next(each for each in found if each[0] == "bits 16" and len(each) == 3)
    assert bits[1].endswith("(n = 2)")
    assert "±" in bits[1]
    assert "±" not in bits[2]
    indices = next(each for each in found if each[0] == "indices 16" and len(each) == 3)
    assert indices[2] == "not measured"


def test_a_contrast_has_rule_interval_and_sign_test_or_says_that_no_seed_is_complete() -> None:
    (known,) = [each for each in cells(study_html(study(), SUMMARIES)) if each[0] == CONTRAST.name]
    assert known[1] == "&gt; 0"
    assert re.fullmatch(r"0\.2\d* \(-0\.1\d* to 0\.5\d*\)", known[2])
    assert known[3:] == ["0.25", "not told apart", "the interval holds 0"]
    counted = CONTRAST.replace(low=0.2, high=0.2)
    (exact,) = [each for each in cells(study_html(study(contrasts=(counted,)), {})) if each[0] == CONTRAST.name]
    assert exact[2] == "0.2"
    nothing = CONTRAST.replace(mean=None, low=None, high=None, sign_p=None)
    (unknown,) = [each for each in cells(study_html(study(contrasts=(nothing,)), {})) if each[0] == CONTRAST.name]
    assert unknown[2:4] == ["no complete seed", ""]


def test_a_figure_of_the_paper_stands_beside_the_arm_of_its_name() -> None:
    page = study_html(study(), SUMMARIES)
    (beside,) = [each for each in cells(page) if len(each) == 5 and each[2] == "out of memory"]
    assert beside[4].startswith("loss 0.6")
    other = PaperFigure(arm="elsewhere", metric="loss", value=0.25, source="Table 4")
    (alone,) = [each for each in cells(study_html(study(paper=(other,)), SUMMARIES)) if each[0] == "elsewhere"]
    assert alone[2:] == ["0.25", "Table 4", "no such arm here"]
    assert "beside ours" not in study_html(study(paper=()), SUMMARIES)


@pytest.mark.parametrize("verdict", ["holds", "does not hold", "not told apart", "not run"])
def test_a_reason_stands_only_where_the_claim_does_not_hold(verdict: Verdict) -> None:
    for page in (study_html(study(verdict), SUMMARIES), studies_html([(study(verdict), "heads.html")])):
        assert f"<strong>{verdict}</strong>" in page
        assert ("too few steps" in page) == (verdict in ("does not hold", "not told apart"))


def test_the_page_of_all_studies_says_what_was_not_run_and_why() -> None:
    left = study(
        "not run", number=5, notes=("the budget of 0 minutes was spent",), contrasts=(CONTRAST.replace(per_seed={}),)
    )
    page = studies_html([(study(), "a.html"), (left, "b.html")])
    assert "2 claims, each with its verdict; 1 of them was not run" in page
    found = next(each for each in cells(page) if each[0] == "5")
    assert found[4:] == ["0 of 2", "<strong>not run</strong>", "the budget of 0 minutes was spent"]
    whole = next(each for each in cells(page) if each[0] == "3")
    assert whole[4:] == ["2 of 2", "<strong>holds</strong>", ""]


def test_a_figure_stands_beside_the_metric_that_it_asks_for() -> None:
    figure = PaperFigure(arm="bits 16", metric="FID", value=3.5, source="Table 4", ours="fid")
    (beside,) = [each for each in cells(study_html(study(paper=(figure,)), SUMMARIES)) if each[1:2] == ["FID"]]
    assert beside[4] == "fid 12 (n = 1)"


@pytest.mark.parametrize(
    ("half", "value", "shown"),
    [(0.025, -0.032407, "-0.032"), (0.3, 0.2, "0.20"), (12.0, 345.678, "346"), (1e-9, 0.123456, "0.1235")],
)
def test_a_mean_has_the_digits_that_its_interval_allows(half: float, value: float, shown: str) -> None:
    assert rounded(half, value) == [shown]


def test_a_figure_has_a_line_per_seed_and_where_arms_share_places_one_per_kind_of_arm() -> None:
    assert lines(study_html(study(), SUMMARIES)) == {"seed 0", "seed 1"}
    shared = study(places={"bits 16": 16.0, "indices 16": 16.0}, x_title="bits per token")
    page = study_html(shared, SUMMARIES)
    assert {"bits, seed 0", "bits, seed 1", "indices, seed 0"} <= lines(page)
    assert "loss over bits per token" in page


def test_a_study_without_a_value_has_no_figure_and_says_why() -> None:
    failed = StudyRow(arm="bits 16", seed=0, values={}, note="out of memory <at step 3>")
    page = study_html(study(rows=(failed,)), {})
    assert "<svg" not in page
    assert "bits 16, seed 0: out of memory &lt;at step 3&gt;" in page


def test_cost_is_told_in_minutes_with_the_estimate_where_there_was_one() -> None:
    page = study_html(study(), SUMMARIES)
    assert "4 jobs, 1 of them done before" in page
    assert "took 1.5 minutes, estimated before as 2.0; all jobs together took 4.0 minutes." in page
    assert "estimated before" not in study_html(study(cost=COST.replace(estimated_s=None)), SUMMARIES)
    assert "4.0 minutes, 2.5 of the processor." in study_html(study(cost=COST.replace(processor_s=150.0)), SUMMARIES)


def test_the_verdict_is_told_with_its_size_or_with_finished_models() -> None:
    assert "Verdict at the size “mini” and seeds 0, 1" in study_html(study(), SUMMARIES)
    assert "Verdict with finished models and seeds 0, 1" in study_html(study(size="finished models"), SUMMARIES)


def test_the_page_of_all_studies_leads_to_each_of_them() -> None:
    page = studies_html([(study(), "heads.html"), (study("does not hold", number=5, claim="A <b>"), "b.html")])
    assert "2 claims" in page
    assert '<a href="heads.html">A head of bits learns faster.</a>' in page
    assert '<a href="b.html">A &lt;b&gt;</a>' in page


RESULT = StudyResult(
    name="bits", number=2, title="Bits", claim="More bits reconstruct better.", source="Table 4", size="mini",
    seeds=(0, 1), metric="psnr", verdict="holds", reason="", contrasts=(),
    rows=tuple(
        StudyRow(arm=arm, seed=seed, values={"psnr": 20.0 + place + 0.1 * seed})
        for place, arm in enumerate(("8 bits", "16 bits"))
        for seed in (0, 1)
    ),
    paper=(), cost=Cost(estimated_s=None, spent_s=1.0, jobs_s=1.0, num_jobs=4, num_done_before=0),
    places={"8 bits": 8.0, "16 bits": 16.0}, x_title="bits",
)  # fmt: skip


def marks(html: str) -> list[tuple[str, str]]:
    return re.findall(r'<line class="whisker tone-8"[^>]* y1="([0-9.]+)" y2="([0-9.]+)"', html)


def test_every_arm_with_a_known_spread_has_a_mark() -> None:
    html = study_html(RESULT, {"psnr": {"8 bits": (20.05, 0.6, 2), "16 bits": (21.05, 0.3, 2)}})
    check_page(html, num_scripts=1)
    (wide, narrow) = [float(low) - float(high) for low, high in marks(html)]
    assert abs(wide - 2 * narrow) < 0.05


def test_one_seed_has_no_interval_and_no_mark() -> None:
    assert marks(study_html(RESULT, {"psnr": {"8 bits": (20.05, None, 1), "another arm": (1.0, 0.5, 2)}})) == []
