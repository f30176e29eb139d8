"""Page of figures with texts and tables, which shows a benchmark; readable without a network."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from infinity.reporting.templates import rendered


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the page.

    Attributes:
        text: What the figure shows, in one paragraph.
        charts: Charts made by ``charts.line_chart``.
        sheet: ``data:`` URI of a PNG, or None.
        table: Rows of cells, the first with the names of the columns; may be empty.
    """

    title: str
    text: str
    charts: tuple[Markup, ...]
    sheet: str | None = None
    table: tuple[tuple[str, ...], ...] = ()


def figures_html(title: str, about: str, figures: tuple[Figure, ...]) -> str:
    """Return the page as HTML text."""
    return rendered(
        "figures.html.j2",
        title=title,
        about=about,
        figures=figures,
    )
