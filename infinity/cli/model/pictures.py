"""Commands about pictures: draw them for prompts, or encode and decode them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import Checkpoint, Device, bar, clear_errors, number, numbers, out, whole

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from infinity.generation.picture_files import DrawingSettings
    from infinity.generation.pipeline import Pipeline
    from infinity.generation.sampling import SamplingConfig
    from infinity.tokenizer import Tokenizer


def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[list[str], typer.Option("--prompt", "-p", help="What to draw; may be given several times.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the PNG files.")] = Path("drawings"),
    count: Annotated[
        int, typer.Option(min=1, max=100_000, help="Pictures for each prompt, with consecutive seeds.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=-(2**63), max=2**63 - 1, help="Seed of the first picture of each prompt.")
    ] = 0,
    aspect_ratio: Annotated[
        float, typer.Option(help="Height / width; the nearest of the fifteen ratios is drawn.")
    ] = 1.0,
    guidance: Annotated[
        str,
        typer.Option(
            help="Strength of classifier-free guidance: how far pictures are pushed towards the prompt; 1 is none. One "
            "number, one number per scale ('1,2,3'), or a line from the first scale to the last ('1..3')."
        ),
    ] = "3",
    guidance_layers: Annotated[
        str,
        typer.Option(help="Blocks whose features are guided instead of the logits, such as '-2' for the second last."),
    ] = "",
    temperature: Annotated[
        str, typer.Option(help="Divides the logits; lower is less varied. One number, or one number per scale.")
    ] = "1",
    top_p: Annotated[
        float,
        typer.Option(
            "--top-p",
            "--nucleus",
            help="Nucleus sampling: a bit keeps the fewest values whose probability reaches this share, in (0, 1].",
        ),
    ] = 0.97,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likelier value of a bit.")] = False,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What to steer away from; by default the empty condition of the training.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Most pictures per pass, fewer where memory is short; changes no picture.")
    ] = 8,
    bfloat16: Annotated[
        bool | None,
        typer.Option(help="Compute products in bfloat16 or float32; by default bfloat16 on a GPU, float32 on a CPU."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Draw pictures for prompts, as PNG files that hold the settings they were drawn with."""
    with clear_errors():
        from infinity.generation.device import check_device
        from infinity.generation.picture_files import make_picture_folder, write_drawing
        from infinity.generation.pipeline import Pipeline, prompt_list
        from infinity.scales import check_aspect_ratio, nearest_aspect_ratio

        check_device(device)
        ratio = nearest_aspect_ratio(check_aspect_ratio(aspect_ratio), 1.0)
        sampling = _sampling(guidance, guidance_layers, temperature, top_p, greedy, negative_prompt)
        texts = prompt_list(prompt)
        total = len(texts) * count
        make_picture_folder(output)
        pipeline = Pipeline.load(checkpoint, device, bfloat16=bfloat16)
        with bar(f"drawing {total} pictures") as report:
            for start in range(0, total, batch_size):
                places = range(start, min(total, start + batch_size))
                wanted = [(texts[number // count], seed + number % count) for number in places]

                def told(share: float, start: int = start, size: int = len(wanted)) -> None:
                    report((start + share * size) / total)

                for index, (png, drawing) in enumerate(_drawn(pipeline, wanted, ratio, sampling, told), start=start):
                    file = write_drawing(output, index, png, drawing)
                    out.print(str(file), markup=False, highlight=False, soft_wrap=True)


def _drawn(
    pipeline: Pipeline,
    batch: list[tuple[str, int]],
    aspect_ratio: float,
    sampling: SamplingConfig,
    progress: Callable[[float], None],
) -> Iterator[tuple[bytes, DrawingSettings]]:
    """Yield a PNG file for each prompt and seed, with what it says of itself."""
    from infinity.generation.picture_files import DrawingSettings, to_png

    prompts, seeds = [text for text, _ in batch], [seed for _, seed in batch]
    images = pipeline.generate(
        prompts, aspect_ratio=aspect_ratio, sampling=sampling, seeds=seeds, batch_size=len(batch), progress=progress
    ).images_BHW3.numpy()
    size, model = (images.shape[2], images.shape[1]), pipeline.digest
    for (text, seed), image in zip(batch, images, strict=True):
        drawing = DrawingSettings.of(text, seed, sampling, aspect_ratio=aspect_ratio, size=size, model=model)
        yield to_png(image, drawing), drawing


def _sampling(
    guidance: str, layers: str, temperature: str, nucleus: float, greedy: bool, negative_prompt: str | None
) -> SamplingConfig:
    from infinity.generation.sampling import PyramidGuidance, SamplingConfig

    if ".." in guidance:
        start, end = (number("guidance", part) for part in guidance.split("..", 1))
        factor: float | tuple[float, ...] | PyramidGuidance = PyramidGuidance(start=start, end=end)
    else:
        factor = numbers("guidance", guidance)
    if not 0.0 < nucleus <= 1.0:
        raise ValueError(f"--top-p: expected above 0 and at most 1, got {nucleus}")
    blocks = tuple(whole("guidance-layers", part) for part in layers.split(",") if part.strip())
    return SamplingConfig(
        guidance=factor,
        guide_logits=not blocks,
        guided_blocks=blocks,
        temperature=numbers("temperature", temperature),
        greedy=greedy,
        nucleus=nucleus,
        negative_prompt=negative_prompt,
    )


def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Pictures to encode to bits and decode again.")],
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the PNG files.")] = Path("reconstructions"),
    sides: Annotated[
        str, typer.Option(help="Grid sides of a square picture, coarse to fine; by default those of the model.")
    ] = "",
    device: Device = "cpu",
) -> None:
    """Encode pictures to bits and decode them; write originals beside reconstructions, and their PSNR in dB."""
    with clear_errors():
        import torch

        from infinity.data.images.contact_sheet import compose_sheet
        from infinity.data.loading.batches import fit
        from infinity.evaluation.reconstruction.image_quality import psnr_db
        from infinity.generation.device import check_device
        from infinity.generation.picture_files import make_picture_folder
        from infinity.scales import Resolution, nearest_aspect_ratio
        from infinity.tokenizer.pixels import to_images, to_pixels

        tokenizer, resolution = _tokenizer_of(checkpoint, check_device(device))
        if sides:
            resolution = Resolution(sides=tuple(whole("sides", part) for part in sides.split(",")))
            if resolution.sides[-1] < 2:
                raise ValueError(f"--sides: expected a finest side of at least 2, got {sides}")
        if resolution is None:
            raise ValueError(f"{checkpoint} is a tokenizer alone and knows no resolution; give one with --sides")
        make_picture_folder(output)
        for path in images:
            picture = _picture(path)
            schedule = resolution.schedule(nearest_aspect_ratio(picture.height, picture.width))
            original = torch.from_numpy(fit(picture, schedule.image_size_px(tokenizer.config.stride_px)).copy())[None]
            rebuilt = to_images(tokenizer.reconstruct(to_pixels(original, device), schedule))
            quality = float(psnr_db(original.numpy(), rebuilt.numpy())[0])
            file = output / f"{path.stem}-reconstructed.png"
            file.write_bytes(compose_sheet(list(torch.cat([original, rebuilt]).numpy()), 2))
            out.print(f"{file}  {quality:.2f} dB", markup=False, highlight=False, soft_wrap=True)


def _picture(path: Path) -> Image.Image:
    from infinity import storage
    from infinity.data.images.decoding import MAX_PIXELS, UnreadableError, decode

    data = storage.read_bytes(str(path))
    try:
        return decode(data, MAX_PIXELS).image
    except UnreadableError as error:
        raise ValueError(f"{path}: expected a picture, found {error}") from error


def _tokenizer_of(uri: str, device: str | torch.device) -> tuple[Tokenizer, Any]:
    """Return the tokenizer of a tokenizer or model folder, and the model's resolution if there is a model."""
    from infinity import storage
    from infinity.checkpoint import read_kind_and_config
    from infinity.generation.pipeline import TOKENIZER_FOLDER, ModelConfig
    from infinity.tokenizer.saved import load_tokenizer

    kind, config = read_kind_and_config(uri)
    if kind == "tokenizer":
        return load_tokenizer(uri).to(device), None
    model = ModelConfig.from_json(config, where=uri)
    return load_tokenizer(storage.join(uri, TOKENIZER_FOLDER)).to(device), model.resolution
