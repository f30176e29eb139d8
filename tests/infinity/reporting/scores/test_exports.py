"""The leaderboard as CSV, JSON and LaTeX: every figure once, texts that stay texts."""

from __future__ import annotations

import csv
import html
import json
import re
from dataclasses import replace

from infinity.evaluation.promotion.leaderboard import Group, leaderboard, ours, published
from infinity.evaluation.score import Score
from infinity.reporting.scores.exports import leaderboard_csv, leaderboard_json, leaderboard_latex, tex
from infinity.reporting.scores.leaderboard import leaderboard_html, leaderboard_markdown
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


def test_our_figures_say_everywhere_how_they_were_drawn_and_the_command_that_repeats_them() -> None:
    made = {"sampling": "guidance 3 on logits, seed 7", "repeat": "infinity run '/a b/spec.json'"}
    groups = leaderboard([*published(), *ours("mine", [SCORE], "/a b", **made)])
    (row,) = [row for row in csv.DictReader(leaderboard_csv(groups).splitlines(keepends=True)) if row["sampling"]]
    (entry,) = [entry for entry in json.loads(leaderboard_json(groups)) if entry["repeat"]]
    assert {name: row[name] for name in made} == {name: entry[name] for name in made} == made
    for text in (leaderboard_latex(groups), leaderboard_markdown(groups), leaderboard_html(groups)):
        plain = html.unescape(text).replace("\\", "")
        assert plain.count(made["sampling"]) == plain.count(made["repeat"]) == 1


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


def test_a_text_that_a_spreadsheet_would_compute_stays_text_in_csv_and_numbers_stay_numbers() -> None:
    names = ["=HYPERLINK(1)", "+1", "-x", "@SUM(A1)", "flux = 1"]
    low = Score(metric="image_reward.overall", value=-0.5, unit="", n=9, protocol="=p", low=-1.0, high=0.0)
    groups = leaderboard(entry for name in names for entry in ours(name, [low], "-runs"))
    rows = list(csv.DictReader(leaderboard_csv(groups).splitlines(keepends=True)))
    assert sorted(row["model"] for row in rows) == sorted([*(f"'{name}" for name in names[:4]), names[4]])
    assert {(row["value"], row["low"], row["protocol"], row["source"]) for row in rows} == {
        ("-0.5", "-1.0", "'=p", "'-runs")
    }
    assert {row["model"] for row in json.loads(leaderboard_json(groups))} == set(names)


def test_large_figures_are_written_out() -> None:
    score = Score(metric="judge_dsg.tokens", value=1234567.0, unit="tokens", n=9, protocol="p")
    assert "1,234,567 tokens" in leaderboard_latex(leaderboard(ours("m", [score], "runs/e")))
