"""Commands about pictures: draw them for prompts, or encode and decode them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import Checkpoint, Device, bar, clear_errors, number, numbers, out

if TYPE_CHECKING:
    import torch

    from infinity.generation.sampling import SamplingConfig
    from infinity.tokenizer import Tokenizer


def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[list[str], typer.Option("--prompt", "-p", help="What to draw; may be given several times.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the PNG files.")] = Path("drawings"),
    count: Annotated[int, typer.Option(min=1, help="Pictures for each prompt, with consecutive seeds.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the first picture of each prompt.")] = 0,
    aspect_ratio: Annotated[
        float, typer.Option(help="Height / width; the nearest of the fifteen ratios is drawn.")
    ] = 1.0,
    guidance: Annotated[str, typer.Option(help="One number, one a scale ('1,2,3'), or a pyramid ('1..3').")] = "3",
    guidance_layers: Annotated[
        str, typer.Option(help="Blocks whose features are guided instead of the logits, for example '-2'.")
    ] = "",
    temperature: Annotated[str, typer.Option(help="One number, or one a scale.")] = "1",
    nucleus: Annotated[float, typer.Option(help="A bit whose rarer value has at most 1 - this is fixed.")] = 0.97,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likelier bit.")] = False,
    negative_prompt: Annotated[str | None, typer.Option(help="What to steer away from.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures drawn at a time.")] = 8,
    device: Device = "cpu",
) -> None:
    """Draw pictures for prompts."""
    with clear_errors():
        from PIL import Image

        from infinity.generation.pipeline import Pipeline
        from infinity.scales import nearest_aspect_ratio

        sampling = _sampling(guidance, guidance_layers, temperature, nucleus, greedy, negative_prompt)
        pipeline = Pipeline.load(checkpoint, device)
        prompts = [text for text in prompt for _ in range(count)]
        seeds = [seed + i for _ in prompt for i in range(count)]
        with bar(f"drawing {len(prompts)} pictures") as report:
            images = pipeline.generate(
                prompts,
                aspect_ratio=nearest_aspect_ratio(aspect_ratio, 1.0),
                sampling=sampling,
                seeds=seeds,
                batch_size=batch_size,
                progress=report,
            ).images_BHW3
        output.mkdir(parents=True, exist_ok=True)
        for index, (text, number, image) in enumerate(zip(prompts, seeds, images, strict=True)):
            slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
            file = output / f"{index:03d}-{slug}-seed{number}.png"
            Image.fromarray(image.numpy()).save(file)
            out.print(str(file), markup=False, highlight=False, soft_wrap=True)


def _sampling(
    guidance: str, layers: str, temperature: str, nucleus: float, greedy: bool, negative_prompt: str | None
) -> SamplingConfig:
    from infinity.generation.sampling import PyramidGuidance, SamplingConfig

    if ".." in guidance:
        start, end = (number("guidance", part) for part in guidance.split("..", 1))
        factor: float | tuple[float, ...] | PyramidGuidance = PyramidGuidance(start=start, end=end)
    else:
        factor = numbers("guidance", guidance)
    blocks = tuple(int(number("guidance-layers", part)) for part in layers.split(",") if part.strip())
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
    """Encode pictures to bits and decode them; writes original and reconstruction side by side and their PSNR in dB."""
    with clear_errors():
        import torch

        from infinity.data.images.contact_sheet import compose_sheet
        from infinity.data.images.decoding import MAX_PIXELS, decode
        from infinity.data.loading.batches import fit
        from infinity.evaluation.reconstruction.image_quality import psnr_db
        from infinity.scales import Resolution, nearest_aspect_ratio
        from infinity.tokenizer.pixels import to_images, to_pixels

        tokenizer, resolution = _tokenizer_of(checkpoint, device)
        if sides:
            resolution = Resolution(sides=tuple(int(number("sides", part)) for part in sides.split(",")))
        if resolution is None:
            raise ValueError(f"{checkpoint} is a tokenizer alone and knows no resolution; give one with --sides")
        output.mkdir(parents=True, exist_ok=True)
        for path in images:
            picture = decode(path.read_bytes(), MAX_PIXELS).image
            schedule = resolution.schedule(nearest_aspect_ratio(picture.height, picture.width))
            original = torch.from_numpy(fit(picture, schedule.image_size_px(tokenizer.config.stride_px)).copy())[None]
            rebuilt = to_images(tokenizer.reconstruct(to_pixels(original, device), schedule))
            quality = float(psnr_db(original.numpy(), rebuilt.numpy())[0])
            file = output / f"{path.stem}-reconstructed.png"
            file.write_bytes(compose_sheet(list(torch.cat([original, rebuilt]).numpy()), 2))
            out.print(f"{file}  {quality:.2f} dB", markup=False, highlight=False, soft_wrap=True)


def _tokenizer_of(uri: str, device: str | torch.device) -> tuple[Tokenizer, Any]:
    """The tokenizer of a tokenizer folder or of a model folder, and the model's resolution if there is a model."""
    from infinity import storage
    from infinity.checkpoint import read_kind_and_config
    from infinity.generation.pipeline import TOKENIZER_FOLDER, ModelConfig
    from infinity.tokenizer.saved import load_tokenizer

    kind, config = read_kind_and_config(uri)
    if kind == "tokenizer":
        return load_tokenizer(uri).to(device), None
    model = ModelConfig.from_json(config, where=uri)
    return load_tokenizer(storage.join(uri, TOKENIZER_FOLDER)).to(device), model.resolution
