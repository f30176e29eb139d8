"""Options that all commands share that draw pictures, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import number, numbers, out, whole

if TYPE_CHECKING:
    from infinity.generation.drawing.results import PipelineResult
    from infinity.generation.infinity_pipeline import InfinityPipeline
    from infinity.generation.sampling import SamplingConfig
    from infinity.generation.watermark.pattern import BitWatermark

Prompts = Annotated[list[str], typer.Option("--prompt", "-p", help="What to draw; may be given several times.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the PNG files.")]
Count = Annotated[int, typer.Option(min=1, max=100_000, help="Pictures for each prompt, with consecutive seeds.")]
Seed = Annotated[int, typer.Option(min=-(2**63), max=2**63 - 1, help="Seed of the first picture of each prompt.")]
AspectRatio = Annotated[float, typer.Option(help="Height / width; the nearest of the fifteen ratios is drawn.")]
Guidance = Annotated[
    str,
    typer.Option(
        help="Strength of classifier-free guidance: how far pictures are pushed towards the prompt; 1 is none. One "
        "number, one number per scale ('1,2,3'), or a line from the first scale to the last ('1..3')."
    ),
]
GuidanceLayers = Annotated[
    str, typer.Option(help="Blocks whose features are guided instead of the logits, such as '-2' for the second last.")
]
Temperature = Annotated[
    str, typer.Option(help="Divides the logits; lower is less varied. One number, or one number per scale.")
]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p",
        "--nucleus",
        help="Nucleus sampling: a bit keeps the fewest values whose probability reaches this share, in (0, 1].",
    ),
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the likelier value of a bit.")]
NegativePrompt = Annotated[
    str | None, typer.Option(help="What to steer away from; by default the empty condition of the training.")
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Most pictures per pass, fewer where memory is short; changes no picture.")
]
Bfloat16 = Annotated[
    bool | None,
    typer.Option(help="Compute products in bfloat16 or float32; by default bfloat16 on a GPU, float32 on a CPU."),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        help="Store the blocks' weights as int8 or int4: less memory, slower, and no adapters. Or compute products "
        "of the blocks in float8, on a GPU that has it."
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(help="Store keys and values of earlier scales as int8: less memory per picture, slower."),
]
TextDevice = Annotated[str | None, typer.Option(help="Where the text encoder computes; by default as the model.")]
ReleaseText = Annotated[
    bool, typer.Option("--release-text", help="Keep the text encoder in memory only while it reads the prompts.")
]
Offload = Annotated[
    bool,
    typer.Option("--offload", help="Keep the blocks' weights in the CPU's memory until a layer computes; slower."),
]
Pruned = Annotated[
    str, typer.Option(help="Share of the tokens that the last scales leave out: one number, or several by commas.")
]
CacheShare = Annotated[
    str,
    typer.Option(help="Share of earlier tokens whose keys and values blocks keep: one number, or one per block."),
]
Lora = Annotated[
    list[str] | None,
    typer.Option("--lora", help="Adapter file or folder, with a scale behind a colon (file:0.5); may be repeated."),
]
WatermarkKeyFile = Annotated[
    str | None,
    typer.Option(help="Put a watermark into the bits, with the key in this file, or in a variable: env:NAME."),
]
WatermarkStrength = Annotated[
    float | None, typer.Option(help="Logits by which bits lean to the watermark, up to 50; 2 if left out.")
]


def sampling_of(
    guidance: str,
    layers: str,
    temperature: str,
    nucleus: float,
    greedy: bool,
    negative_prompt: str | None,
    pruned: str = "",
    cache_share: str = "1",
) -> SamplingConfig:
    """Return the settings that the options spell.

    Raises:
        ValueError: An option is not what it should be; the message names it.
    """
    from infinity.generation.sampling import PyramidGuidance, SamplingConfig

    if "..." in guidance:
        raise ValueError(f"--guidance: expected two points between start and end, got {guidance!r:.80}")
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
        pruned=tuple(number("pruned", part) for part in pruned.split(",") if part.strip()),
        cache_share=numbers("cache-share", cache_share),
    )


def loaded(
    checkpoint: str,
    device: str | None,
    lora: Sequence[str] | None = None,
    *,
    bfloat16: bool | None = None,
    quantize: str | None = None,
    cache: str | None = None,
    **placed: Any,
) -> InfinityPipeline:
    """Return a model with its adapters.

    Args:
        checkpoint: Model folder, or folder of a run.
        device: Where to compute; None for the fastest.
        lora: Places of adapters, with a scale behind a colon.
        bfloat16: Whether products are bfloat16; None for what is usual on the device.
        quantize: Form of the blocks' weights.
        cache: Form of keys and values.
        placed: Where parts of the model lie, as ``InfinityPipeline.from_pretrained`` has it.

    Raises:
        ValueError: The device, the model or an adapter is not there, or they do not belong together.
    """
    from infinity.generation.device import check_device
    from infinity.generation.drawing.arguments import Dtype
    from infinity.generation.infinity_pipeline import InfinityPipeline
    from infinity.transformer.adapters.lora_files import parse_adapter
    from infinity.transformer.cache import check_cache_form
    from infinity.transformer.number_formats.quantized import check_weight_form

    kind, form = check_weight_form(quantize), check_cache_form(cache)
    dtype: Dtype = "auto" if bfloat16 is None else "bfloat16" if bfloat16 else "float32"
    where = check_device(device)
    pipe = InfinityPipeline.from_pretrained(checkpoint, device=where, dtype=dtype, quantize=kind, cache=form, **placed)
    if lora:
        pipe.set_adapters(parse_adapter(text) for text in lora)
    return pipe


def watermark_of(key_file: str | None, strength: float | None) -> BitWatermark | None:
    """Return the watermark that the options ask for, if they do.

    Raises:
        ValueError: There is no key, it is too short, or the strength is out of range or given without a key.
    """
    from infinity.generation.watermark.key import read_watermark_key
    from infinity.generation.watermark.pattern import DEFAULT_STRENGTH, BitWatermark

    if key_file is None:
        if strength is not None:
            raise ValueError("--watermark-strength: expected --watermark-key-file with it, found none")
        return None
    return BitWatermark(read_watermark_key(key_file), DEFAULT_STRENGTH if strength is None else strength)


def write(results: Iterable[PipelineResult], folder: Path) -> None:
    """Write pictures as numbered PNG files with their settings, and print the paths."""
    from infinity.generation.files.picture_files import to_png, write_drawing

    index = 0
    for result in results:
        for image, about in zip(result.pixels(), result.settings, strict=True):
            path = write_drawing(folder, index, to_png(image, about), about)
            out.say(str(path))
            index += 1
