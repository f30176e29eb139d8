"""Command line: one module a topic; torch and the models are imported by the commands that need them.

A new command is a function of a topic's module that is added here; a new group is a module with its own ``app``.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from infinity.cli import (
    building,
    data,
    distance,
    duplicates,
    estimate,
    evaluation,
    pictures,
    published,
    quarantined,
    recipes,
    records,
    redraw,
    registry,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Infinity: bitwise autoregressive text-to-image models.",
)
commands: tuple[Callable[..., None], ...] = (
    pictures.generate,
    pictures.reconstruct,
    evaluation.evaluate,
    evaluation.compare,
    evaluation.leaderboard,
    evaluation.statistics,
    distance.distance,
    evaluation.card,
    recipes.tokenizer_spec,
    recipes.transformer_specs,
    estimate.estimate,
    records.info,
    records.run,
    records.report,
    redraw.redraw,
)
for command in commands:
    app.command()(command)
for command in (building.build, quarantined.quarantine, quarantined.replay, duplicates.duplicates):
    data.app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(registry.app, name="registry")
app.add_typer(published.app, name="published")

__all__ = ["app"]
