"""The leaderboard as Markdown and HTML: groups by protocol, our scores marked, texts that stay texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity.evaluation.promotion.leaderboard import LeaderboardEntry, leaderboard, ours, published
from infinity.evaluation.score import Score
from infinity.reporting.scores.leaderboard import (
    PROMISE,
    interval,
    leaderboard_html,
    leaderboard_markdown,
    plain,
    shown_source,
    shown_value,
)
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed


def entry(model: str, value: float | None, **changes: object) -> LeaderboardEntry:
    values: dict[str, object] = {
        "metric": "geneval.overall", "model": model, "value": value, "unit": "share", "protocol": "p/1", "source": "s",
    }  # fmt: skip
    return LeaderboardEntry(**(values | changes))  # type: ignore[arg-type]


def cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table: bars with a backslash before them do not cut."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_published_score_stands_in_one_row_under_its_protocol() -> None:
    groups = leaderboard(published())
    lines = leaderboard_markdown(groups).splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith(("| model", "|---"))]
    assert len(rows) == len(published())
    assert {len(cells(row)) for row in rows} == {5}
    assert sum(line.startswith("Protocol: ") for line in lines) == len(groups)
    texts = check_page(leaderboard_html(groups), num_scripts=0)
    assert texts.count("95 % interval") == len(groups)
    assert PROMISE in texts


def test_ours_are_marked_with_interval_and_sample_size_and_others_are_not() -> None:
    score = Score.share("geneval.overall", 30, 40, protocol="p/1")
    groups = leaderboard([entry("theirs", 0.5), *ours("our model", [score], "/runs/1")])
    markdown, html = leaderboard_markdown(groups), leaderboard_html(groups)
    first = next(line for line in markdown.splitlines() if "our model" in line)
    assert cells(first) == ["**our model**", "0.75", f"{score.low:.4g} to {score.high:.4g}", "40", "/runs/1"]
    assert "**theirs**" not in markdown
    assert html.count('class="ours"') == 1
    assert markdown.index("our model") < markdown.index("theirs")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(0.5, "share", "0.5"), (28.25, "dB", "28.25 dB"), (None, "dB", "not measured"), (3.0, "", "3")],
)
def test_a_value_has_its_unit_and_a_share_none(value: float | None, unit: str, words: str) -> None:
    assert shown_value(entry("m", value, unit=unit)) == words


def test_an_unknown_interval_is_empty_and_a_note_follows_its_source() -> None:
    assert interval(entry("m", 0.5)) == ""
    assert interval(entry("m", 0.5, low=0.25, high=0.75)) == "0.25 to 0.75"
    assert shown_source(entry("m", 0.5)) == "s"
    assert shown_source(entry("m", 0.5, note="few prompts")) == "s; few prompts"


def test_hostile_texts_stay_texts_in_html_and_in_markdown() -> None:
    changes = {name: HOSTILE for name in ("protocol", "source", "note", "unit")}
    groups = leaderboard([entry(HOSTILE, 0.5, **changes)])
    assert check_page(leaderboard_html(groups), num_scripts=0).count(squeezed(HOSTILE)) >= 4
    row = leaderboard_markdown(groups).splitlines()[-2]
    assert len(cells(row)) == 5
    assert "<script" not in row.replace("\\<script", "")


@given(st.text())
def test_any_text_is_one_cell_of_one_line_without_markup(text: str) -> None:
    cell = plain(text)
    assert len(cells(f"| {cell} |")) == 1 or "\\|" not in cell
    assert "\n" not in cell
    assert re.sub(r"\\([\\`*_\[\]<>|#~&])", r"\1", cell) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>|#]", cell)
