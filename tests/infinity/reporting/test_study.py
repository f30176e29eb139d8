"""The page of a study: a line per seed, and the interval of every arm's mean."""

from __future__ import annotations

import re

from infinity.reporting.study import Cost, StudyResult, StudyRow, study_html
from tests.infinity.reporting.pages import check_page

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
