"""``infinity standing``: a page about one evaluation, beside published scores of the same protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import clear_errors, out

if TYPE_CHECKING:
    from infinity.evaluation.promotion.leaderboard import LeaderboardEntry

Published = Annotated[
    list[str] | None,
    typer.Option(
        "--published",
        help="Table of further published scores (.csv with metric, model, value, unit, protocol, source); may be "
        "repeated.",
    ),
]


def standing(
    evaluation: Annotated[str, typer.Argument(help="Folder of an evaluation, of a run, or of a model inside a run.")],
    output: Annotated[str, typer.Option("--output", "-o", help="File to write, .html.")] = "standing.html",
    published: Published = None,
) -> None:
    """Write a page about one evaluation: whose pictures, scores beside published ones of their own protocol."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.evaluation.results import find
        from infinity.jobs.evaluation.standing import standing_of
        from infinity.reporting.scores.standing import standing_html

        if not output.lower().endswith((".html", ".htm")):
            raise ValueError(f"--output: expected a file ending in .html, got {output}")
        page = standing_of(find(evaluation), published_scores(published))
        storage.write_text(output, standing_html(page))
        for section in page.sections:
            out.say(f"{section.name}: {section.sentence}")
        out.say(output)


def published_scores(tables: list[str] | None) -> list[LeaderboardEntry]:
    """Return the published scores that come with the package, and those of further tables.

    Raises:
        ValueError: A table is not UTF-8 text, or a row is wrong or there already.
        StorageError: A table is missing.
    """
    from infinity import storage
    from infinity.evaluation.promotion.leaderboard import published

    entries = [*published()]
    seen = {(entry.metric, entry.model, entry.protocol, entry.source) for entry in entries}
    for uri in tables or ():
        for entry in published(storage.read_text(uri).removeprefix("\ufeff"), where=uri):
            key = (entry.metric, entry.model, entry.protocol, entry.source)
            if key in seen:
                raise ValueError(f"{uri}: the figure of {entry.model!r} for {entry.metric} is there twice")
            seen.add(key)
            entries.append(entry)
    return entries
