"""Commands about records: what a checkpoint is, a stage again, a report again."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from infinity.cli.console import clear_errors, out


def info(checkpoint: Annotated[str, typer.Argument(help="Checkpoint or model folder.")]) -> None:
    """Show what a checkpoint is: kind, digest, parameters, configuration. Verifies every checksum on the way."""
    with clear_errors():
        from infinity.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        table = Table(show_header=False, box=None)
        table.add_row("kind", loaded.kind)
        table.add_row("digest", loaded.digest)
        table.add_row("tensors", f"{len(loaded.tensors):,}")
        table.add_row("parameters", f"{sum(tensor.numel() for tensor in loaded.tensors.values()):,}")
        out.print(table)
        out.print_json(json.dumps({"config": loaded.config, "extra": loaded.extra}))


def run(
    spec_file: Annotated[str, typer.Argument(help="Path or s3:// URI of a spec.json, as every stage leaves it.")],
    output: Annotated[
        str | None,
        typer.Option(help="Folder for the outputs instead of the spec's own: computes a finished stage again."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="Address of a Ray cluster; without one a local Ray starts.")
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Where another process works on this stage: wait for its end, or end with a sentence.")
    ] = True,
) -> None:
    """Run one stage from its spec file, unless it is done already."""
    from infinity.jobs.__main__ import run as run_stage

    run_stage(spec_file, output, ray_address, wait)


def report(folder: Annotated[str, typer.Argument(help="Folder with the summary.json of a run.")]) -> None:
    """Draw report.html and report.json of a run again from its summary."""
    with clear_errors():
        from infinity import storage
        from infinity.reporting.summary import RunSummary
        from infinity.reporting.write import write_report

        uri = storage.join(folder, "summary.json")
        out.print(write_report(RunSummary.parse(storage.read_text(uri), where=uri), folder).html, soft_wrap=True)
