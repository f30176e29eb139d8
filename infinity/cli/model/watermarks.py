"""``infinity watermark``: make a key, and look for a watermark in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infinity.cli.console import Checkpoint, Device, clear_errors, out

app = typer.Typer(no_args_is_help=True, help="Watermarks in the bits of pictures: make a key, look for a watermark.")


@app.command("new-key")
def new_key(path: Annotated[Path, typer.Argument(help="File to write; only its owner may read it.")]) -> None:
    """Write a new random key, and print its name; who has the key can find and draw the watermark."""
    with clear_errors():
        from infinity.generation.watermark.key import write_new_key

        try:
            key = write_new_key(path)
        except FileExistsError:
            raise ValueError(f"{path}: expected no file of this name, found one; a key is never replaced") from None
        out.say(f"{path}  key {key.id}")


@app.command()
def detect(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures of any format, size and origin.")],
    checkpoint: Checkpoint,
    key_file: Annotated[str, typer.Option(help="File of the key, or a variable that holds it: env:NAME.")],
    threshold: Annotated[float, typer.Option(help="Largest p-value that counts as found.")] = 1e-6,
    crop: Annotated[
        list[float] | None,
        typer.Option(help="Share of the sides that may have been cut off; may be repeated. 0.05 if left out."),
    ] = None,
    device: Device = None,
) -> None:
    """Look for a watermark: the p-value is the probability of such agreement in a picture without it."""
    with clear_errors():
        from infinity.cli.model.pictures import read_picture
        from infinity.generation.device import check_device
        from infinity.generation.watermark.detection import CROPS, WatermarkDetector
        from infinity.generation.watermark.key import read_watermark_key

        if not 0 < threshold < 1:
            raise ValueError(f"--threshold: expected a probability above 0 and below 1, got {threshold}")
        detector = WatermarkDetector.load(checkpoint, read_watermark_key(key_file), check_device(device))
        for path in pictures:
            found = detector.test(read_picture(path), CROPS if crop is None else tuple(crop))
            said = "watermark found" if found.is_found(threshold) else "no watermark found"
            out.say(f"{path}  {said}, p = 10^{found.log10_p:.2f} ({found.green} of {found.pairs} pairs)")
