"""The leaderboard as CSV, JSON and LaTeX: every figure once, texts that stay texts."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

from infinity.evaluation.promotion.leaderboard import Group, leaderboard, ours, published
from infinity.evaluation.score import Score
from infinity.reporting.scores.exports import leaderboard_csv, leaderboard_json, leaderboard_latex, tex
from tests.infinity.reporting.pages import HOSTILE

SCORE = Score.share("geneval.overall", 30, 40, protocol=f"p/1; {HOSTILE}")
GROUPS = leaderboard([*published(), *ours("mine & yours_2", [SCORE], "runs/e")])


def test_csv_and_json_hold_every_figure_with_protocol_interval_and_sample_size() -> None:
    rows = list(csv.DictReader(leaderboard_csv(GROUPS).splitlines(keepends=True)))
    listed = json.loads(leaderboard_json(GROUPS))
    assert len(rows) == len(listed) == len(published()) + 1
    (mine,) = [row for row in listed if row["ours"]]
    assert (mine["value"], mine["n"], mine["low"], mine["high"]) == (0.75, 40, SCORE.low, SCORE.high)
    assert HOSTILE in mine["protocol"]
    for row, other in zip(rows, listed, strict=True):
        assert {name: value for name, value in row.items() if name in ("metric", "model", "protocol", "source")} == {
            name: other[name] for name in ("metric", "model", "protocol", "source")
        }


def test_latex_has_one_row_per_figure_and_no_bare_special_character() -> None:
    text = leaderboard_latex(GROUPS)
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith("model")]
    assert len(rows) == len(published()) + 1
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert r"\textbf{mine \& yours\_2}" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(GROUPS)


def test_every_special_character_of_latex_is_escaped() -> None:
    assert tex(r"\&%$#_{}~^<>") == (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"
    )


def test_a_name_in_square_brackets_is_no_option_of_the_line_before_in_latex() -> None:
    rows = leaderboard(ours("[pro] | 1.1", [SCORE], "runs/e"))
    plain = leaderboard_latex(
        [Group(each.metric, each.protocol, (replace(each.entries[0], is_ours=False),)) for each in rows]
    )
    assert "\n{[}pro] \\textbar{} 1.1 &" in plain
