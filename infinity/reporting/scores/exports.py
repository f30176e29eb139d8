"""The leaderboard for other programs: CSV, JSON and LaTeX, every figure with protocol, sample size and interval."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from infinity.evaluation.promotion.leaderboard import Group
from infinity.reporting.scores.leaderboard import interval, shown_source, shown_value

COLUMNS = (
    "metric", "model", "value", "unit", "low", "high", "n", "protocol", "source", "note", "ours", "sampling", "repeat",
)  # fmt: skip
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}",  # at the begin of a row, LaTeX takes [ for an option of the line break
}  # fmt: skip


def _rows(groups: Sequence[Group]) -> list[dict[str, object]]:
    return [
        {
            "metric": group.metric, "model": entry.model, "value": entry.value, "unit": entry.unit, "low": entry.low,
            "high": entry.high, "n": entry.n, "protocol": group.protocol, "source": entry.source, "note": entry.note,
            "ours": entry.is_ours, "sampling": entry.sampling, "repeat": entry.repeat,
        }
        for group in groups
        for entry in group.entries
    ]  # fmt: skip


def leaderboard_csv(groups: Sequence[Group]) -> str:
    """Return one line per figure; empty cells for what is not known."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(cell) for name, cell in row.items()} for row in _rows(groups))
    return buffer.getvalue()


def harmless(cell: object) -> object:
    """Return a cell of a CSV file; a text that a spreadsheet would compute as a formula begins with an apostrophe.

    Example:
        >>> harmless("=1+1"), harmless("flux"), harmless(-0.5)
        ("'=1+1", 'flux', -0.5)
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def leaderboard_json(groups: Sequence[Group]) -> str:
    """Return a list of figures as JSON."""
    return json.dumps(_rows(groups), indent=2, ensure_ascii=False) + "\n"


def leaderboard_latex(groups: Sequence[Group]) -> str:
    """Return one ``tabular`` per group, with the protocol in its caption and our scores in bold."""
    parts = []
    for group in groups:
        lines = [r"\begin{table}", rf"\caption{{{tex(group.metric)}. {tex(group.protocol)}}}"]
        lines += [r"\begin{tabular}{lrrr}", r"model & value & 95 \% interval & n \\", r"\hline"]
        for entry in group.entries:
            model = rf"\textbf{{{tex(entry.model)}}}" if entry.is_ours else tex(entry.model)
            cells = [model, tex(shown_value(entry)), tex(interval(entry)), "" if entry.n is None else str(entry.n)]
            lines.append(f"{' & '.join(cells)} \\\\")
        notes = [rf"\par\footnotesize {tex(f'{e.model}: {shown_source(e)}')}" for e in group.entries if e.is_ours]
        parts.append("\n".join([*lines, r"\end{tabular}", *notes, r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


def tex(text: str) -> str:
    """Return a text with LaTeX's special characters escaped.

    Example:
        >>> tex("50 % of a_b")
        '50 \\\\% of a\\\\_b'
    """
    return "".join(_ESCAPES.get(char, char) for char in " ".join(text.split()))
