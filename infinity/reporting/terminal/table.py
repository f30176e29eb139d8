"""Tables for a terminal that always fit: every line has at most 100 columns, and no letter of a cell is lost."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rich.cells import cell_len

from infinity.reporting.terminal.text import escaped

WIDTH = 100
"""Columns of the widest line, whatever the cells hold."""

_GAP = 2
_NARROWEST = 16
_FIGURE = re.compile(r"[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?%?")


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Collection[str] = (), width: int = WIDTH
) -> list[str]:
    """Return the lines of a table, the names of the columns first.

    A table that is too wide gets its notes below, each text once; then its long cells are folded; at last every row
    becomes a list of names and cells.

    Example:
        >>> for line in table_lines(("metric", "n"), [("loss", "12")]):
        ...     print(line)
        metric   n
        loss    12

    Args:
        columns: Names of the columns; all empty for a table without a head.
        rows: Cells of the rows, one per column.
        notes: Names of the columns of long texts, which may stand below the table.
        width: Columns of the widest line, at least 40.

    Raises:
        ValueError: A row has more or fewer cells than there are columns, or the width is below 40.
    """
    if width < 40:
        raise ValueError(f"width: expected at least 40 columns, got {width}")
    if wrong := [row for row in rows if len(row) != len(columns)]:
        raise ValueError(f"expected {len(columns)} cells per row, got {len(wrong[0])}: {wrong[0]}")
    head = [_one_line(name) for name in columns]
    cells = [[_one_line(cell) for cell in row] for row in rows]
    below: list[str] = []
    if _total(head, cells) > width and notes:
        head, cells, below = _notes_below(head, cells, notes, width)
    widths = _narrowed([*head], cells, width)
    if sum(widths) + _GAP * (len(widths) - 1) > width:
        return [*_as_lists(head, cells, width), *below]
    shown = [head, *cells] if any(head) else cells
    right = [_is_figures([row[index] for row in cells]) for index in range(len(head))]
    return [line for row in shown for line in _row(row, widths, right)] + below


def folded(text: str, width: int, indent: str = "") -> list[str]:
    """Return a text as lines of at most ``width`` columns, broken between words or, in longer words, anywhere.

    Args:
        text: The text; line breaks count as spaces.
        indent: Spaces before all lines but the first.
    """
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1].strip() else f"{lines[-1]}{word}"
        if cell_len(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1].strip():
            lines.append(indent)
        for char in word:
            if cell_len(lines[-1] + char) > width:
                lines.append(indent)
            lines[-1] += char
    return lines


def _one_line(text: str) -> str:
    return " ".join(escaped(text).split())


def _total(head: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    return sum(_widths(head, cells)) + _GAP * (len(head) - 1)


def _widths(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(head, *cells, strict=True)]


def _notes_below(
    head: Sequence[str], cells: Sequence[Sequence[str]], notes: Collection[str], width: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """Return the table with numbers in the place of notes, and the notes; equal ones have one number."""
    places = [index for index, name in enumerate(head) if name in notes]
    known: dict[str, int] = {}
    for row in cells:
        for index in places:
            if row[index]:
                known.setdefault(row[index], len(known) + 1)
    kept = [index for index in range(len(head)) if index not in places]
    table = [
        [row[index] for index in kept] + ["".join(f"[{known[row[index]]}]" for index in places if row[index])]
        for row in cells
    ]
    below = [line for text, number in known.items() for line in folded(f"[{number}] {text}", width, "    ")]
    title = head[places[0]] if len(places) == 1 else "notes"
    return [*(head[index] for index in kept), title], table, below


def _narrowed(head: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return widths of columns: their own, or less for those with long cells."""
    widths = _widths(head, cells)
    free = width - _GAP * (len(widths) - 1)
    while sum(widths) > free:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        others = max((each for index, each in enumerate(widths) if index != widest), default=_NARROWEST)
        least = max(_NARROWEST, min(others, widths[widest] - 1))
        widths[widest] = max(least, widths[widest] - (sum(widths) - free))
    return widths


def _is_figures(column: Sequence[str]) -> bool:
    return any(column) and all(_FIGURE.fullmatch(cell) for cell in column if cell)


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """Return the lines of one row."""
    parts = [folded(cell, each) for cell, each in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, parts))):
        texts = [part[number] if number < len(part) else "" for part in parts]
        spaces = [" " * (each - cell_len(text)) for text, each in zip(texts, widths, strict=True)]
        filled = [
            space + text if is_right else text + space
            for text, space, is_right in zip(texts, spaces, right, strict=True)
        ]
        lines.append((" " * _GAP).join(filled).rstrip())
    return lines


def _as_lists(head: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return every row as lines of a name and its cell; rows are apart by an empty line."""
    lines: list[str] = []
    for row in cells:
        lines += [""] if lines else []
        for name, cell in zip(head, row, strict=True):
            if cell:
                lines += folded(f"{name}: {cell}" if name else cell, width, "    ")
    return lines
