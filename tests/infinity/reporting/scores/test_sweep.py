"""A sweep as page and table: one row per point, lines of means over seeds, and a table that a script can read."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape

import pytest

from infinity.evaluation.score import Score
from infinity.reporting.scores.sweep import SweepPage, SweepRow, sweep_csv, sweep_html
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed


def row(
    strength: float, value: float | None, *, seed: int = 0, kind: str = "logits", temperature: float | None = 1.0
) -> SweepRow:
    score = (
        Score.not_measured("m.overall", "share", protocol="p", reason="no picture")
        if value is None
        else Score(metric="m.overall", value=value, unit="share", n=40, protocol="p", low=value - 0.1, high=value + 0.1)
    )
    other = Score(metric="m.counting", value=0.25, unit="share", n=10, protocol="p")
    return SweepRow(guidance_on=kind, strength=strength, temperature=temperature, seed=seed, scores=(other, score))


ROWS = (
    row(1.0, 0.5), row(1.0, 0.7, seed=1), row(3.0, 0.9), row(3.0, 0.7, seed=1), row(3.0, None, kind="features"),
    row(2.0, 0.6, kind="greedy", temperature=None),
)  # fmt: skip
PAGE = SweepPage(model="/model", metric="m", rows=ROWS)


def lines_of(html: str) -> dict[str, list[list[float]]]:
    data = json.loads(unescape(re.search(r'data-chart="([^"]+)"', html)[1]))  # type: ignore[index]
    return {line["label"]: line["points"] for line in data["lines"]}


def test_the_figure_shows_the_overall_metric_as_means_over_seeds_at_rising_strength() -> None:
    assert PAGE.shown == "m.overall"
    assert lines_of(sweep_html(PAGE)) == {
        "logits, temperature 1": [[1.0, pytest.approx(0.6)], [3.0, pytest.approx(0.8)]],
        "greedy": [[2.0, pytest.approx(0.6)]],
    }


def test_every_point_with_an_interval_has_a_mark_of_its_width() -> None:
    html = sweep_html(PAGE)
    marks = re.findall(r'<line class="whisker (tone-\d)" x1="[-\d.]+" x2="[-\d.]+" y1="([\d.]+)" y2="([\d.]+)"', html)
    assert [tone for tone, _, _ in marks] == ["tone-1", "tone-1", "tone-2"]
    heights = [float(low) - float(high) for _, low, high in marks]
    assert heights == pytest.approx([heights[0]] * 3, abs=0.02)
    assert all(0 <= float(end) <= 100 for _, *ends in marks for end in ends)
    bare = tuple(each.replace(scores=each.scores[:1]) for each in ROWS)
    page = SweepPage(model="/model", metric="m", rows=bare)
    assert '<line class="whisker' not in sweep_html(page)


def test_without_an_overall_metric_the_first_one_is_shown() -> None:
    rows = tuple(each.replace(scores=each.scores[:1]) for each in ROWS)
    assert SweepPage(model="/model", metric="m", rows=rows).shown == "m.counting"


def test_the_page_has_a_row_per_point_and_names_the_best_settings() -> None:
    html = sweep_html(PAGE)
    texts = check_page(html, num_scripts=1)
    assert html.count("<tr>") == len(ROWS) + 1
    assert "not measured" in texts
    assert "Best m.overall by the mean over 2 seeds: guidance on logits, temperature 1, strength 3" in texts


def test_every_point_says_all_settings_and_its_command() -> None:
    rows = tuple(
        each.replace(sampling=f"top-p 0.9, seed {seed}", repeat=f"infinity run {seed}")
        for seed, each in enumerate(ROWS)
    )
    page = SweepPage(model="/model", metric="m", rows=rows)
    read = list(csv.DictReader(io.StringIO(sweep_csv(page))))
    assert [(row["sampling"], row["repeat"]) for row in read] == [(row.sampling, row.repeat) for row in rows]
    html = sweep_html(page)
    assert all(f"top-p 0.9, seed {seed}<br><code>infinity run {seed}</code>" in html for seed in range(len(rows)))


def test_the_table_reads_back_with_intervals_and_empty_cells_for_what_is_unknown() -> None:
    read = list(csv.DictReader(io.StringIO(sweep_csv(PAGE))))
    assert len(read) == len(ROWS)
    for found, expected in zip(read, ROWS, strict=True):
        overall = expected.scores[1]
        assert float(found["strength"]) == expected.strength
        assert found["temperature"] == ("" if expected.temperature is None else str(expected.temperature))
        for side, value in (("", overall.value), (".low", overall.low), (".high", overall.high), (".n", overall.n)):
            assert found[f"m.overall{side}"] == ("" if value is None else str(value))
        assert (found["m.counting"], found["m.counting.low"]) == ("0.25", "")


def test_rows_may_lack_a_metric_that_others_have() -> None:
    rows = (ROWS[0], ROWS[2].replace(scores=ROWS[2].scores[1:]))
    page = SweepPage(model="/model", metric="m", rows=rows)
    assert [line["m.counting"] for line in csv.DictReader(io.StringIO(sweep_csv(page)))] == ["0.25", ""]
    assert "not measured" in check_page(sweep_html(page), num_scripts=1)


def test_a_point_without_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        SweepRow(guidance_on="logits", strength=1.0, temperature=1.0, seed=0, scores=())


def test_hostile_names_stay_texts() -> None:
    page = SweepPage(model=HOSTILE, metric="m", rows=(ROWS[0].replace(guidance_on=HOSTILE),))
    assert squeezed(HOSTILE) in check_page(sweep_html(page), num_scripts=1)
