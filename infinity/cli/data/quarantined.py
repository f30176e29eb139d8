"""Commands about rows that could not be used: look at them, repair them, put them through again."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import bar, clear_errors, out, show_table

ManifestUri = Annotated[str, typer.Argument(help="Manifest of a data set: a path or s3:// URI of manifest.parquet.")]


def quarantine(
    manifest: ManifestUri,
    export: Annotated[
        str | None,
        typer.Option(help="Folder to write the rows into, as an image folder whose metadata.jsonl tells each reason."),
    ] = None,
) -> None:
    """Show how many rows of a data set are in quarantine and why; with --export write them out for repair."""
    with clear_errors():
        from infinity.data.dataset.manifest import Manifest
        from infinity.data.sources.quarantine import export as export_rows
        from infinity.jobs.dataset import replay as job

        loaded = Manifest.load(manifest)
        rows = [(reason, f"{number:,}") for reason, number in job.reasons_of(loaded).items()]
        show_table(("reason", "rows"), rows)
        if export is not None:
            number = export_rows(job.collect(loaded), export, job.roots_of(loaded))
            out.say(f"{number:,} rows written to {export}")


def replay(
    manifest: ManifestUri,
    source: Annotated[
        str | None,
        typer.Argument(help="Folder of repaired rows, from 'quarantine --export'; without it the rows as they are."),
    ] = None,
) -> None:
    """Put quarantined rows through again; the result is a child version of the data set."""
    with clear_errors():
        from infinity.data.dataset.manifest import Manifest
        from infinity.jobs.dataset import build as build_dataset
        from infinity.jobs.dataset.replay import replay_spec

        with bar("replaying") as show:
            spec = replay_spec(Manifest.load(manifest), source)
            report = build_dataset.run(spec, progress=lambda progress: show(progress.fraction))
        counts = report.summary.counts
        out.say(f"{counts['kept']:,} of {counts['read']:,} rows kept")
        out.say(report.manifest)
