"""``infinity sweep``: one model at many settings of guidance, temperature and seed."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import WorkersDevice, bar, clear_errors, out
from infinity.cli.evaluation.scores import Settings, Workers, json_value, scored_model


def sweep(
    model: Annotated[str, typer.Argument(help="Model folder: a path or s3:// URI.")],
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", help="Benchmark over prompts to run at every setting, as for evaluate."),
    ] = None,
    grid: Annotated[
        str,
        typer.Option(
            help="Settings as JSON: on_logits, pyramid, on_features, temperatures, seeds, greedy, such as "
            '{"on_logits": [1, 2, 3], "seeds": [0, 1]}.'
        ),
    ] = "{}",
    metric: Annotated[str, typer.Option(help="First part of the names of the metrics that are compared.")] = (
        "scene_geneval"
    ),
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder for evaluations, table and page.")
    ] = "runs/sweeps",
    settings: Settings = None,
    workers: Workers = 1,
    device: WorkersDevice = "cpu",
) -> None:
    """Score a model at many settings: the best by the mean over seeds, and which settings may be as good."""
    with clear_errors():
        from infinity.jobs.evaluation.sweep import SweepGrid, SweepSpec, run
        from infinity.reporting.scores.sweep import SweepPage, best_sentence

        base = scored_model(model, benchmark or [], settings or [], output=output, workers=workers, device=device)
        spec = SweepSpec(
            output=base.output,
            base=base,
            grid=SweepGrid.from_json(json_value("--grid", grid), where="--grid"),
            metric=metric,
        )
        with bar(f"scoring {len(spec.points())} settings") as report:
            found = run(spec, progress=lambda progress: report(progress.fraction))
        page = SweepPage(model=model, metric=metric, rows=found.rows)
        for line in (best_sentence(page), found.page, found.table):
            out.say(line)
