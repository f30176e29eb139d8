"""Command line: draw pictures, look at checkpoints, exchange published weights, repeat a stage, draw a report again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    import torch

    from infinity.generation.sampling import SamplingConfig
    from infinity.tokenizer import Tokenizer

# Torch and the models are imported by the commands that need them, so that --help answers at once.
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Infinity: bitwise autoregressive text-to-image models.",
)
published = typer.Typer(no_args_is_help=True, help="Exchange weights with the published code's file formats.")
app.add_typer(published, name="published")
_out = Console()
_err = Console(stderr=True)

Checkpoint = Annotated[str, typer.Option("--checkpoint", "-c", help="Model folder: a path or s3:// URI.")]
Device = Annotated[str, typer.Option(help="Where to compute, for example cpu or cuda.")]


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """What a user can get wrong becomes one line and exit code 1; a fault of ours keeps its trace."""
    try:
        yield
    except (ValueError, OSError) as error:
        _err.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@app.command()
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
    with _clear_errors():
        from PIL import Image

        from infinity.generation.pipeline import Pipeline
        from infinity.scales import nearest_aspect_ratio

        sampling = _sampling(guidance, guidance_layers, temperature, nucleus, greedy, negative_prompt)
        pipeline = Pipeline.load(checkpoint, device)
        prompts = [text for text in prompt for _ in range(count)]
        seeds = [seed + i for _ in prompt for i in range(count)]
        with _bar(f"drawing {len(prompts)} pictures") as report:
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
            _out.print(str(file), markup=False, highlight=False, soft_wrap=True)


def _sampling(
    guidance: str, layers: str, temperature: str, nucleus: float, greedy: bool, negative_prompt: str | None
) -> SamplingConfig:
    from infinity.generation.sampling import PyramidGuidance, SamplingConfig

    if ".." in guidance:
        start, end = (_number("guidance", part) for part in guidance.split("..", 1))
        factor: float | tuple[float, ...] | PyramidGuidance = PyramidGuidance(start=start, end=end)
    else:
        factor = _numbers("guidance", guidance)
    blocks = tuple(int(_number("guidance-layers", part)) for part in layers.split(",") if part.strip())
    return SamplingConfig(
        guidance=factor,
        guide_logits=not blocks,
        guided_blocks=blocks,
        temperature=_numbers("temperature", temperature),
        greedy=greedy,
        nucleus=nucleus,
        negative_prompt=negative_prompt,
    )


def _numbers(name: str, text: str) -> float | tuple[float, ...]:
    values = tuple(_number(name, part) for part in text.split(","))
    return values[0] if len(values) == 1 else values


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--{name}: expected a number, got {text!r}") from None


@app.command()
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
    with _clear_errors():
        import torch

        from infinity.data.batches import fit
        from infinity.data.decoding import MAX_PIXELS, decode
        from infinity.data.pictures import compose_sheet
        from infinity.evaluation.image_quality import psnr_db
        from infinity.scales import Resolution, nearest_aspect_ratio
        from infinity.tokenizer.pixels import to_images, to_pixels

        tokenizer, resolution = _tokenizer_of(checkpoint, device)
        if sides:
            resolution = Resolution(sides=tuple(int(_number("sides", part)) for part in sides.split(",")))
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
            _out.print(f"{file}  {quality:.2f} dB", markup=False, highlight=False, soft_wrap=True)


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


@app.command()
def info(checkpoint: Annotated[str, typer.Argument(help="Checkpoint or model folder.")]) -> None:
    """Show what a checkpoint is: kind, digest, parameters, configuration. Verifies every checksum on the way."""
    with _clear_errors():
        from infinity.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        table = Table(show_header=False, box=None)
        table.add_row("kind", loaded.kind)
        table.add_row("digest", loaded.digest)
        table.add_row("tensors", f"{len(loaded.tensors):,}")
        table.add_row("parameters", f"{sum(tensor.numel() for tensor in loaded.tensors.values()):,}")
        _out.print(table)
        _out.print_json(json.dumps({"config": loaded.config, "extra": loaded.extra}))


@app.command()
def run(
    spec_file: Annotated[str, typer.Argument(help="Path or s3:// URI of a spec.json, as every stage leaves it.")],
    output: Annotated[
        str | None,
        typer.Option(help="Folder for the outputs instead of the spec's own: computes a finished stage again."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="Address of a Ray cluster; without one a local Ray starts.")
    ] = None,
) -> None:
    """Run one stage from its spec file, unless it is done already."""
    from infinity.jobs.__main__ import run as run_stage

    run_stage(spec_file, output, ray_address)


@app.command()
def report(folder: Annotated[str, typer.Argument(help="Folder with the summary.json of a run.")]) -> None:
    """Draw report.html and report.json of a run again from its summary."""
    with _clear_errors():
        from infinity import storage
        from infinity.reporting.summary import RunSummary
        from infinity.reporting.write import write_report

        uri = storage.join(folder, "summary.json")
        _out.print(write_report(RunSummary.parse(storage.read_text(uri), where=uri), folder).html, soft_wrap=True)


@published.command("import-tokenizer")
def import_tokenizer(
    source: Annotated[str, typer.Argument(help="Published file that holds the tensors under the key 'vae'.")],
    output: Annotated[str, typer.Argument(help="Folder to write.")],
    fold: Annotated[bool, typer.Option("--fold", help="2x2 positions make one token (8B model).")] = False,
) -> None:
    """Read a published tokenizer and write it as a checkpoint folder."""
    with _clear_errors():
        from infinity.convert import import_tokenizer as convert

        _out.print(f"{output}  digest {convert(source, output, fold=fold)}", soft_wrap=True)


@published.command("import-transformer")
def import_transformer(
    source: Annotated[str, typer.Argument(help="Published .pth file, or folder of shards.")],
    tokenizer: Annotated[str, typer.Argument(help="Tokenizer checkpoint folder, from import-tokenizer.")],
    output: Annotated[str, typer.Argument(help="Model folder to write.")],
    size: Annotated[str, typer.Option(help="Pixel class: 256, 512, 768 or 1024.")] = "1024",
    text_model: Annotated[str, typer.Option(help="Flan-T5: a local folder or a hub name.")] = "google/flan-t5-xl",
    ema: Annotated[bool, typer.Option("--ema", help="Of a training checkpoint take the averaged weights.")] = False,
) -> None:
    """Read a published transformer and write it as a model folder, from which pictures can be drawn."""
    with _clear_errors():
        from infinity.convert import import_transformer as convert
        from infinity.generation.pipeline import save_model
        from infinity.scales import Resolution
        from infinity.text import T5TextConfig

        imported = convert(source, ema=ema)
        digest = save_model(
            output,
            imported.build(),
            text=T5TextConfig(model=text_model, max_tokens=imported.config.max_text_tokens),
            resolution=Resolution.from_json({"size": size}, where="--size"),
            tokenizer_uri=tokenizer,
            extra=imported.extra,
        )
        _out.print(f"{output}  digest {digest}", soft_wrap=True)


@published.command("export")
def export(
    checkpoint: Annotated[str, typer.Argument(help="Model folder or tokenizer checkpoint folder.")],
    target: Annotated[str, typer.Argument(help="File ending in .pth, or for a transformer a folder for shards.")],
) -> None:
    """Write a transformer or a tokenizer as the published code reads it."""
    with _clear_errors():
        from infinity.checkpoint import read_kind_and_config
        from infinity.convert import export_tokenizer, export_transformer

        kind, _ = read_kind_and_config(checkpoint)
        (export_tokenizer if kind == "tokenizer" else export_transformer)(checkpoint, target)
        _out.print(target, soft_wrap=True)


if __name__ == "__main__":
    app()
