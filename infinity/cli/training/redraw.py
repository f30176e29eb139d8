"""Command that shows a training again."""

from __future__ import annotations

from typing import Annotated

import typer

from infinity.cli.console import Device, clear_errors, out


def redraw(
    training: Annotated[str, typer.Argument(help="Folder of a training: running, stopped or finished.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder to write.")] = "redrawn",
    step: Annotated[
        int | None, typer.Option(help="Step of the stored state; the newest whole one if left out.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="What to draw instead of the prompts of the run.")
    ] = None,
    device: Device = None,
) -> None:
    """Draw a training's samples, curves and page again from one of its stored states."""
    with clear_errors():
        from infinity import storage
        from infinity.generation.device import check_device
        from infinity.jobs.training.redraw import redraw as draw_again

        found = draw_again(
            storage.absolute(training),
            storage.absolute(output),
            step=step,
            prompts=tuple(prompt or ()),
            device=check_device(device),
        )
        for uri in (found.page, found.sheet, found.metrics):
            out.say(uri)
