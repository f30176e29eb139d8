"""The leaderboard as Markdown and as an HTML page (decision 22)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from infinity.evaluation.promotion.leaderboard import Group, LeaderboardEntry
from infinity.evaluation.score import join_notes
from infinity.reporting.comparison import number
from infinity.reporting.templates import rendered

PROMISE = "Scores are ranked only against scores of the same protocol; every group states its protocol."


def leaderboard_markdown(groups: Sequence[Group]) -> str:
    """Return one table per group, with our scores in bold."""
    lines = ["# Leaderboard", "", PROMISE, ""]
    metric = ""
    for group in groups:
        if group.metric != metric:
            metric = group.metric
            lines += [f"## {metric}", ""]
        lines += [f"Protocol: {plain(group.protocol)}", "", "| model | value | 95 % interval | n | source |"]
        lines.append("|---|---|---|---|---|")
        for entry in group.entries:
            cells = [entry.model, shown_value(entry), interval(entry), "" if entry.n is None else f"{entry.n:,}"]
            texts = [plain(cell) for cell in (*cells, shown_source(entry))]
            if entry.is_ours:
                texts[0] = f"**{texts[0]}**"
            lines.append(f"| {' | '.join(texts)} |")
        lines.append("")
    return "\n".join(lines)


def leaderboard_html(groups: Sequence[Group]) -> str:
    """Return the page as HTML text, readable without a network."""
    return rendered(
        "leaderboard.html.j2",
        sections=[(metric, tuple(found)) for metric, found in groupby(groups, key=lambda group: group.metric)],
        promise=PROMISE,
        value=shown_value,
        interval=interval,
        source=shown_source,
    )


def shown_value(entry: LeaderboardEntry) -> str:
    """Return the value with its unit; a share stands without unit."""
    return f"{number(entry.value)} {'' if entry.unit == 'share' or entry.value is None else entry.unit}".strip()


def interval(entry: LeaderboardEntry) -> str:
    """Return the 95 % interval; empty where none is known."""
    return "" if entry.low is None else f"{number(entry.low)} to {number(entry.high)}"


def shown_source(entry: LeaderboardEntry) -> str:
    """Return the source with the note; for ours, how it was drawn and the command that measures it again."""
    drawn = f"drawn with {entry.sampling}" if entry.sampling else ""
    return join_notes(f"again: {entry.repeat}" if entry.repeat else entry.source, drawn, entry.note)


def plain(text: str) -> str:
    """Return a text as a cell of a Markdown table, with all special characters escaped."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#~&" else char for char in " ".join(text.split()))
