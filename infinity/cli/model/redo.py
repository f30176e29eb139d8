"""Commands that start from a picture: draw it again, or edit it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Checkpoint, Device, clear_errors
from infinity.cli.model import drawing_options as options

if TYPE_CHECKING:
    from infinity.generation.drawing.results import PipelineResult
    from infinity.generation.editing.edits import Edit
    from infinity.generation.infinity_pipeline import InfinityPipeline


def redo(
    pictures: Annotated[list[Path], typer.Argument(help="PNG files that this program drew or edited.")],
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", "-c", help="Model folder; by default looked for in models and runs.")
    ] = None,
    output: options.Output = Path("redone"),
    lora: options.Lora = None,
    watermark_key_file: options.WatermarkKeyFile = None,
    device: Device = None,
) -> None:
    """Draw pictures again from the settings in their files; the pixels are equal on the same kind of processor."""
    with clear_errors():
        from infinity.generation.drawing.redo import find_model, load_adapters_of
        from infinity.generation.drawing.redo import redo as draw_again
        from infinity.generation.files.picture_files import make_picture_folder, read_drawing
        from infinity.transformer.adapters.lora_files import parse_adapter

        make_picture_folder(output)
        found = [read_drawing(path) for path in pictures]
        places = [checkpoint or find_model(settings.model) for settings in found]
        pipes: dict[tuple[str, str | None, str | None, bool], InfinityPipeline] = {}

        def drawn() -> Iterator[PipelineResult]:
            """Yield picture by picture, so that one that is refused takes no other with it."""
            for place, settings in zip(places, found, strict=True):
                key = place, settings.quantized, settings.cache, bool(settings.bfloat16)
                if key not in pipes:
                    kind, form, bfloat16 = key[1:]
                    pipes[key] = options.loaded(place, device, bfloat16=bfloat16, quantize=kind, cache=form)
                pipe = pipes[key]
                mark, secret = settings.watermark, watermark_key_file  # without it, redo says which key is needed
                pipe.watermark = options.watermark_of(secret, mark.strength) if mark is not None and secret else None
                load_adapters_of(pipe, settings, [parse_adapter(text)[0] for text in lora or ()])
                yield draw_again(pipe, settings)

        options.write(drawn(), output)


def edit(
    picture: Annotated[Path, typer.Argument(help="Picture to edit; the bits of one that this model drew are exact.")],
    checkpoint: Checkpoint,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="Text of the new picture.")],
    mask: Annotated[
        Path | None,
        typer.Option(help="Picture of any size, white where to draw again, or transparent; the rest keeps its bits."),
    ] = None,
    outpaint: Annotated[
        float | None, typer.Option(help="Draw what lies outside, on a canvas of this height / width.")
    ] = None,
    keep_scales: Annotated[
        int | None, typer.Option(help="Keep this many first scales, and draw the finer ones again.")
    ] = None,
    output: options.Output = Path("edited"),
    count: options.Count = 1,
    seed: options.Seed = 0,
    guidance: options.Guidance = "3",
    temperature: options.Temperature = "1",
    top_p: options.TopP = 0.97,
    negative_prompt: options.NegativePrompt = None,
    lora: options.Lora = None,
    quantize: options.Quantize = None,
    cache: options.Cache = None,
    watermark_key_file: options.WatermarkKeyFile = None,
    watermark_strength: options.WatermarkStrength = None,
    device: Device = None,
) -> None:
    """Draw a part of a picture again; all other bits stay. Give exactly one of --mask, --outpaint, --keep-scales."""
    with clear_errors():
        from infinity import storage
        from infinity.generation.drawing.arguments import one_seed_each
        from infinity.generation.files.picture_files import make_picture_folder

        sampling = options.sampling_of(guidance, "", temperature, top_p, False, negative_prompt)
        if sum(each is not None for each in (mask, outpaint, keep_scales)) != 1:
            raise ValueError("expected exactly one of --mask, --outpaint and --keep-scales")
        watermark = options.watermark_of(watermark_key_file, watermark_strength)
        data = storage.read_bytes(str(picture))
        make_picture_folder(output)
        pipe = options.loaded(checkpoint, device, lora, quantize=quantize, cache=cache)
        pipe.watermark = watermark
        wanted = _edit(pipe, data, str(picture), mask, outpaint, keep_scales)
        options.write([pipe.draw_edit(wanted, prompt, one_seed_each(count, seed), sampling)], output)


def _edit(
    pipe: InfinityPipeline, data: bytes, where: str, mask: Path | None, outpaint: float | None, keep_scales: int | None
) -> Edit:
    """Return the edit that the options ask for."""
    from infinity import storage
    from infinity.cli.model.pictures import read_picture
    from infinity.data.images.decoding import MAX_PIXELS, UnreadableError
    from infinity.generation.drawing.own_pictures import source_of
    from infinity.generation.editing.edits import inpainting, variation
    from infinity.generation.editing.masks import mask_of

    if outpaint is not None:
        return pipe.outpainting(read_picture(Path(where)), outpaint)
    try:
        source = source_of(pipe, data, where=where)
    except UnreadableError as error:
        raise ValueError(f"{where}: expected a picture, found {error}") from error
    if keep_scales is not None:
        return variation(source, keep_scales)
    assert mask is not None
    try:
        marked = mask_of(storage.read_bytes(str(mask)), MAX_PIXELS)
    except UnreadableError as error:
        raise ValueError(f"{mask}: expected a picture, found {error}") from error
    return inpainting(source, marked)
