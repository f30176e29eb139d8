"""``infinity track``: curves, pictures and scores for experiment trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infinity.cli.console import clear_errors, out


def track(
    folder: Annotated[str, typer.Argument(help="Folder of a run, a training or an evaluation: a path or s3:// URI.")],
    to: Annotated[
        list[str], typer.Option("--to", help="Tracker: tensorboard, wandb, mlflow or trackio; may be repeated.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Local folder of the trackers.")] = Path("tracking"),
    project: Annotated[str, typer.Option(help="Name of the project at the tracker.")] = "infinity",
) -> None:
    """Send curves, sample pictures and scores to experiment trackers; what was sent before is not sent again."""
    with clear_errors():
        from infinity import storage
        from infinity.reporting.tracking.tracked import jobs_of, send

        for tracker in to:
            for job in jobs_of(storage.absolute(folder)):
                sent = send(job, tracker, folder=output, project=project)
                line = (
                    f"{tracker}  {storage.name(job)}  {sent.rows} steps, {sent.pictures} pictures, {sent.scores} scores"
                )
                out.say(line)
