"""Commands about pictures: draw them for prompts, or encode and decode them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import Checkpoint, Device, bar, clear_errors, out, whole
from infinity.cli.model import drawing_options as options

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from infinity.generation.drawing.results import PipelineResult
    from infinity.generation.infinity_pipeline import InfinityPipeline
    from infinity.generation.sampling import SamplingConfig
    from infinity.tokenizer import Tokenizer


def generate(
    checkpoint: Checkpoint,
    prompt: options.Prompts,
    output: options.Output = Path("drawings"),
    count: options.Count = 1,
    seed: options.Seed = 0,
    aspect_ratio: options.AspectRatio = 1.0,
    guidance: options.Guidance = "3",
    guidance_layers: options.GuidanceLayers = "",
    temperature: options.Temperature = "1",
    top_p: options.TopP = 0.97,
    greedy: options.Greedy = False,
    negative_prompt: options.NegativePrompt = None,
    later_prompt: Annotated[str | None, typer.Option(help="Prompt of the finer scales, from --later-scale on.")] = None,
    later_scale: Annotated[
        int | None, typer.Option(min=0, help="First scale, from 0, that reads --later-prompt; 1 if left out.")
    ] = None,
    lora: options.Lora = None,
    batch_size: options.BatchSize = 8,
    bfloat16: options.Bfloat16 = None,
    quantize: options.Quantize = None,
    cache: options.Cache = None,
    text_device: options.TextDevice = None,
    release_text: options.ReleaseText = False,
    offload: options.Offload = False,
    pruned: options.Pruned = "",
    cache_share: options.CacheShare = "1",
    watermark_key_file: options.WatermarkKeyFile = None,
    watermark_strength: options.WatermarkStrength = None,
    device: Device = None,
) -> None:
    """Draw pictures for prompts, as PNG files that hold the settings they were drawn with."""
    with clear_errors():
        from infinity.generation.files.picture_files import make_picture_folder
        from infinity.generation.pipeline import prompt_list, seed_list
        from infinity.scales import check_aspect_ratio, nearest_aspect_ratio

        ratio = nearest_aspect_ratio(check_aspect_ratio(aspect_ratio), 1.0)
        sampling = options.sampling_of(
            guidance, guidance_layers, temperature, top_p, greedy, negative_prompt, pruned, cache_share
        )
        texts = [text for text in prompt_list(prompt) for _ in range(count)]
        wanted = list(zip(texts, seed_list(texts, seed), strict=True))
        if later_prompt is None and later_scale is not None:
            raise ValueError("--later-scale: expected --later-prompt with it, found none")
        later = None if later_prompt is None else (later_prompt, 1 if later_scale is None else later_scale)
        watermark = options.watermark_of(watermark_key_file, watermark_strength)
        make_picture_folder(output)
        placed: dict[str, Any] = {"text_device": text_device, "release_text": release_text, "offload": offload}
        pipe = options.loaded(checkpoint, device, lora, bfloat16=bfloat16, quantize=quantize, cache=cache, **placed)
        pipe.watermark = watermark
        with bar(f"drawing {len(wanted)} pictures") as report:
            options.write(_drawn(pipe, wanted, ratio, sampling, batch_size, later, report), output)


def _drawn(
    pipe: InfinityPipeline,
    wanted: list[tuple[str, int]],
    aspect_ratio: float,
    sampling: SamplingConfig,
    batch_size: int,
    later: tuple[str, int] | None,
    report: Callable[[float], None],
) -> Iterator[PipelineResult]:
    """Yield the pictures batch by batch, so that each is on the disk as early as can be."""
    from infinity.generation.steering import PictureSteering

    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]

        def told(share: float, start: int = start, size: int = len(batch)) -> None:
            report((start + share * size) / len(wanted))

        steering = None if later is None else PictureSteering(None, (later[0],) * len(batch), later[1])
        prompts, seeds = [text for text, _ in batch], [seed for _, seed in batch]
        yield pipe.draw(prompts, seeds, sampling, aspect_ratio, steering=steering, batch_size=len(batch), progress=told)


def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Pictures to encode to bits and decode again.")],
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the PNG files.")] = Path("reconstructions"),
    sides: Annotated[
        str, typer.Option(help="Grid sides of a square picture, coarse to fine; by default those of the model.")
    ] = "",
    device: Device = None,
) -> None:
    """Encode pictures to bits and decode them; write originals beside reconstructions, and their PSNR in dB."""
    with clear_errors():
        import torch

        from infinity import storage
        from infinity.data.images.contact_sheet import compose_sheet
        from infinity.data.images.fitting import fit
        from infinity.evaluation.reconstruction.image_quality import psnr_db
        from infinity.generation.device import check_device
        from infinity.generation.files.picture_files import make_picture_folder
        from infinity.scales import Resolution, nearest_aspect_ratio
        from infinity.tokenizer.pixels import to_images, to_pixels

        device = check_device(device)
        tokenizer, resolution = _tokenizer_of(checkpoint, device)
        if sides:
            grids = tuple(whole("sides", part) for part in sides.split(","))
            if grids[-1] < 2:
                raise ValueError(f"--sides: expected a finest side of at least 2, got {sides}")
            resolution = Resolution(sides=grids)
        if resolution is None:
            raise ValueError(f"{checkpoint} is a tokenizer alone and knows no resolution; give one with --sides")
        make_picture_folder(output)
        for path in images:
            picture = read_picture(path)
            schedule = resolution.schedule(nearest_aspect_ratio(picture.height, picture.width))
            original = torch.from_numpy(fit(picture, schedule.image_size_px(tokenizer.config.stride_px)).copy())[None]
            rebuilt = to_images(tokenizer.reconstruct(to_pixels(original, device), schedule))
            quality = float(psnr_db(original.numpy(), rebuilt.numpy())[0])
            file = output / f"{path.stem}-reconstructed.png"
            storage.write_bytes(str(file), compose_sheet(list(torch.cat([original, rebuilt]).numpy()), 2))
            out.say(f"{file}  {quality:.2f} dB")


def read_picture(path: Path) -> Image.Image:
    """Return the picture in a file.

    Raises:
        ValueError: The file is not a picture that can be read.
    """
    from infinity import storage
    from infinity.data.images.decoding import MAX_PIXELS, UnreadableError, decode, plain
    from infinity.data.memory import LEAST_PICTURE_BYTES

    data = storage.read_bytes(str(path))
    try:
        return plain(decode(data, MAX_PIXELS, LEAST_PICTURE_BYTES).image)
    except UnreadableError as error:
        raise ValueError(f"{path}: expected a picture, found {error}") from error


def _tokenizer_of(uri: str, device: str | torch.device) -> tuple[Tokenizer, Any]:
    """Return the tokenizer of a tokenizer or model folder, and the model's resolution if there is a model."""
    from infinity import storage
    from infinity.checkpoint import read_kind_and_config
    from infinity.generation.files.model_folder import of_run
    from infinity.generation.pipeline import TOKENIZER_FOLDER, ModelConfig
    from infinity.tokenizer.saved import load_tokenizer

    uri = of_run(uri)
    kind, config = read_kind_and_config(uri)
    if kind == "tokenizer":
        return load_tokenizer(uri).to(device), None
    model = ModelConfig.from_json(config, where=uri)
    return load_tokenizer(storage.join(uri, TOKENIZER_FOLDER)).to(device), model.resolution
