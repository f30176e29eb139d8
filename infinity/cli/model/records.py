"""Commands about records: what a checkpoint is, and a report drawn again."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out, show_table


def info(checkpoint: Annotated[str, typer.Argument(help="Checkpoint or model folder.")]) -> None:
    """Show what a checkpoint is: kind, digest, parameters, configuration. Verifies every checksum on the way."""
    with clear_errors():
        from infinity.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        rows = (
            ("kind", loaded.kind),
            ("digest", loaded.digest),
            ("tensors", f"{len(loaded.tensors):,}"),
            ("parameters", f"{sum(tensor.numel() for tensor in loaded.tensors.values()):,}"),
        )
        show_table(("", ""), rows)
        out.print_json(json.dumps({"config": loaded.config, "extra": loaded.extra}))


def report(folder: Annotated[str, typer.Argument(help="Folder with the summary.json of a run.")]) -> None:
    """Draw report.html and report.json of a run again from its summary."""
    with clear_errors():
        from infinity import storage
        from infinity.reporting.summary import RunSummary
        from infinity.reporting.write import write_report

        uri = storage.join(folder, "summary.json")
        out.say(write_report(RunSummary.parse(storage.read_text(uri), where=uri), folder).html)
