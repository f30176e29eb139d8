"""Command line: one module per topic; torch and the models are imported by the commands that need them.

A new command is a function of a topic's module that is added to ``panels``; a new group is a module with its own
``app``.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from infinity.cli import doctor, metrics, upkeep
from infinity.cli.data import building, datasets, duplicates, quarantined
from infinity.cli.evaluation import distance, rating, registry, savings, scores, standing, sweep
from infinity.cli.model import adapters, pictures, published, pull, records, redo, serving, watermarks
from infinity.cli.training import diagnosis, estimate, finetune, recipes, redraw, running, studies, track

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Infinity: bitwise autoregressive text-to-image models.",
)
panels: dict[str, tuple[Callable[..., None], ...]] = {
    "Model: draw pictures, look inside": (
        pictures.generate,
        redo.edit,
        redo.redo,
        pull.pull,
        serving.serve,
        pictures.reconstruct,
        records.info,
        scores.card,
    ),
    "Train": (
        running.run,
        finetune.finetune,
        estimate.estimate,
        recipes.tokenizer_spec,
        recipes.transformer_specs,
        redraw.redraw,
        track.track,
        diagnosis.diagnose,
    ),
    "Evaluate": (
        scores.evaluate,
        sweep.sweep,
        savings.savings,
        scores.compare,
        scores.leaderboard,
        standing.standing,
        distance.statistics,
        distance.distance,
        records.report,
        studies.study,
    ),
    "Operate": (doctor.doctor, upkeep.fleet, upkeep.compare_runs, metrics.metrics, upkeep.gc),
}
"""Commands by the group of ``infinity --help`` that lists them."""

for panel, commands in panels.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for command in (building.build, building.settings, quarantined.quarantine, quarantined.replay, duplicates.duplicates):
    datasets.app.command()(command)
app.add_typer(datasets.app, name="data", rich_help_panel="Data")
app.add_typer(rating.app, name="rate", rich_help_panel="Evaluate")
app.add_typer(registry.app, name="registry", rich_help_panel="Evaluate")
app.add_typer(adapters.app, name="adapter", rich_help_panel="Model: draw pictures, look inside")
app.add_typer(watermarks.app, name="watermark", rich_help_panel="Model: draw pictures, look inside")
app.add_typer(published.app, name="published", rich_help_panel="Model: draw pictures, look inside")

__all__ = ["app"]
