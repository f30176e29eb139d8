"""``infinity savings``: what drawing with less work saves, and what it costs in quality."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import WorkersDevice, bar, clear_errors, out, show_table
from infinity.cli.evaluation.scores import Settings, Workers, json_value, scored_model


def savings(
    model: Annotated[str, typer.Argument(help="Model folder or run: a path or s3:// URI.")],
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", help="Benchmark that judges every way of drawing, as for evaluate."),
    ] = None,
    ways: Annotated[
        str | None,
        typer.Option(
            help="Ways to save as a JSON list of objects with name and unguided, pruned, cache_share, by_role, "
            "quantize or cache, instead of the usual twelve."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric that decides; it needs a value per prompt.")] = (
        "scene_geneval.overall"
    ),
    margin: Annotated[float, typer.Option(help="Loss that matters, in the metric's unit.")] = 0.01,
    manifest: Annotated[str | None, typer.Option(help="Manifest of a data set, for -b validation.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for evaluations and page.")] = "runs/savings",
    settings: Settings = None,
    workers: Workers = 1,
    device: WorkersDevice = "cpu",
) -> None:
    """Draw with less work in many ways: operations, bytes, and the change in quality with its interval."""
    with clear_errors():
        from infinity.jobs.evaluation.savings import WAYS, Saving, SavingsSpec, run
        from infinity.reporting.scores.savings import COLUMNS, SavingsPage

        base = scored_model(
            model, benchmark or [], settings or [], output=output, workers=workers, device=device, manifest=manifest
        )
        chosen: tuple[Saving, ...] = WAYS
        if ways is not None:
            listed = json_value("--ways", ways)
            if not isinstance(listed, list):
                raise ValueError(f"--ways: expected a list of objects, got {ways!r:.80}")
            chosen = tuple(Saving.from_json(each, where=f"--ways[{place}]") for place, each in enumerate(listed))
        spec = SavingsSpec(output=base.output, base=base, ways=chosen, metric=metric, margin=margin)
        with bar(f"drawing in {len(chosen) + 2} ways") as report:
            found = run(spec, progress=lambda progress: report(progress.fraction))
        page = SavingsPage(model=base.model, metric=metric, margin=margin, rows=found.rows)
        show_table(COLUMNS, [tuple(row) for row in page.table()])
        for line in (*page.summary(), found.page):
            out.say(line)
