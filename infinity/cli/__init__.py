"""Command line: one module a topic; torch and the models are imported by the commands that need them.

A new command is a function of a topic's module that is added here; a new group is a module with its own ``app``.
"""

from __future__ import annotations

import typer

from infinity.cli import pictures, published, records

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Infinity: bitwise autoregressive text-to-image models.",
)
for command in (pictures.generate, pictures.reconstruct, records.info, records.run, records.report):
    app.command()(command)
app.add_typer(published.app, name="published")

__all__ = ["app"]
