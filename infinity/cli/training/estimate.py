"""How much memory and time a training will take, before it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import clear_errors, out, show_table

if TYPE_CHECKING:
    from infinity.jobs.estimate.estimate import Estimate
    from infinity.jobs.estimate.rehearsal import AnyTrainSpec
    from infinity.tokenizer.tokenizer import TokenizerConfig

GIGA = 10**9


def estimate(
    spec_file: Annotated[
        str | None, typer.Argument(help="spec.json of a training, as `infinity tokenizer-spec` or a stage leaves it.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="All trainings of a recipe instead: demo, emoji or mini.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Named tokenizer of a transformer's spec (d32, …); without it the spec's own is read."),
    ] = None,
    aspect_ratio: Annotated[float, typer.Option(help="Height over width of the pictures.")] = 1.0,
    text_tokens: Annotated[
        int | None, typer.Option(help="Tokens per caption; by default the most the text encoder gives, up to 128.")
    ] = None,
    num_pictures: Annotated[int, typer.Option(help="Number of pictures in the training split.")] = 0,
    tflops: Annotated[
        float | None,
        typer.Option(
            help="Speed of the device in practice, in 10^12 operations per second; without it a CPU is timed."
        ),
    ] = None,
    draw: Annotated[
        str | None, typer.Option(help="Memory of drawing instead: 125m, 2b, 8b, 8b-512, a model folder or a run.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures per pass, with --draw.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Products of drawing in bfloat16, as on a GPU, or float32.")] = True,
    quantize: Annotated[str | None, typer.Option(help="Form of drawing's weights: int8, int4 or float8.")] = None,
    cache: Annotated[str | None, typer.Option(help="Form of drawing's keys and values: int8.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Estimate memory and seconds per step: the training's own step, traced without memory, and a short calibration.

    With --draw, estimate the memory of drawing.
    """
    with clear_errors():
        if draw is not None:
            if spec_file is not None or recipe is not None:
                raise ValueError("--draw: expected no spec file and no --recipe beside it")
            _drawing(draw, pictures, bfloat16, quantize, cache, aspect_ratio, as_json)
            return
        from infinity.jobs.estimate.estimate import Assumptions, calibrate
        from infinity.jobs.estimate.estimate import estimate as estimate_spec

        assumed = Assumptions(
            aspect_ratio=aspect_ratio,
            text_tokens=text_tokens,
            num_pictures=num_pictures,
            flops_per_s=None if tflops is None else tflops * 1e12,
        )
        found: dict[str, Estimate] = {}
        for name, spec, shape in _trainings(spec_file, recipe, tokenizer):
            timed = None if spec.workers.use_gpu else calibrate(spec, assumed, tokenizer=shape)
            found[name] = estimate_spec(spec, assumed, tokenizer=shape, calibration=timed)
        if as_json:
            out.print_json(json.dumps({name: each.to_json() | _sums(each) for name, each in found.items()}))
            return
        show_table(("", *found), _rows(found), title="A worker's memory in GB, and time")


def _drawing(
    model: str,
    pictures: int,
    bfloat16: bool,
    quantize: str | None,
    cache: str | None,
    aspect_ratio: float,
    as_json: bool,
) -> None:
    from infinity.generation.drawing.arguments import aspect_ratio_of
    from infinity.jobs.estimate.drawing import DrawingSetup, estimate_drawing, shapes_of
    from infinity.transformer.cache import check_cache_form
    from infinity.transformer.number_formats.quantized import check_weight_form

    setup = DrawingSetup(
        quantize=check_weight_form(quantize),
        cache=check_cache_form(cache),
        bfloat16=bfloat16,
        pictures=pictures,
        aspect_ratio=aspect_ratio_of(None, None, aspect_ratio),
    )
    found = estimate_drawing(*shapes_of(model), setup)
    sums = {name: getattr(found, name) for name in ("total", "without_text_encoder", "offloaded", "decoding_in_bands")}
    if as_json:
        out.print_json(json.dumps(found.to_json() | sums))
        return
    rows = ((name.replace("_", " "), f"{value / GIGA:.2f}") for name, value in (found.to_json() | sums).items())
    show_table(("", "GB"), rows, title=f"Memory of drawing {pictures} at once with guidance")


def _trainings(
    spec_file: str | None, recipe: str | None, tokenizer: str | None
) -> list[tuple[str, AnyTrainSpec, TokenizerConfig | None]]:
    from infinity.checkpoint import read_kind_and_config
    from infinity.jobs.registry import load_spec
    from infinity.jobs.training.tokenizer import TrainTokenizerSpec
    from infinity.jobs.training.transformer import TrainTransformerSpec
    from infinity.presets import tokenizer_preset
    from infinity.recipes.runs import end_to_end
    from infinity.tokenizer.tokenizer import TokenizerConfig

    if (spec_file is None) == (recipe is None):
        raise ValueError("estimate: expected either the spec file of a training or --recipe")
    if recipe is not None:
        specs = end_to_end(recipe, source=None, output="runs")  # type: ignore[arg-type]  # it checks the name itself
        shape = specs.tokenizer.model
        return [
            ("tokenizer", specs.tokenizer, None),
            ("pretrain", specs.pretrain, shape),
            ("finetune", specs.finetune, shape),
        ]
    assert spec_file is not None
    spec = load_spec(spec_file)
    if isinstance(spec, TrainTokenizerSpec):
        return [(spec.stage, spec, None)]
    if not isinstance(spec, TrainTransformerSpec):
        raise ValueError(f"{spec_file}: expected the spec of a training, got one of kind {spec.kind!r}")
    if tokenizer is not None:
        return [(spec.stage, spec, tokenizer_preset(tokenizer))]
    config = read_kind_and_config(spec.tokenizer)[1]
    return [(spec.stage, spec, TokenizerConfig.from_json(config, where=spec.tokenizer))]


def _sums(each: Estimate) -> dict[str, int]:
    return {"device_bytes": each.device_bytes, "total_bytes": each.total_bytes}


def _rows(found: dict[str, Estimate]) -> list[tuple[str, ...]]:
    """Return the rows of the table: a name, and a cell per training."""
    parts = ("weights", "gradients", "optimizer", "average", "activations", "frozen", "process", "saving")
    times = [each.seconds_per_step for each in found.values()]
    hours = [None if t is None else t * each.num_steps / 3600 for t, each in zip(times, found.values(), strict=True)]
    return [
        *((part, *(f"{getattr(each, part) / GIGA:.2f}" for each in found.values())) for part in parts),
        ("of a step", *(f"{each.device_bytes / GIGA:.2f}" for each in found.values())),
        ("at most", *(f"{each.total_bytes / GIGA:.2f}" for each in found.values())),
        ("of these, logits", *(f"{each.logits / GIGA:.3f}" for each in found.values())),
        ("seconds per step", *("not known" if time is None else f"{time:.3g}" for time in times)),
        ("hours in all", *("not known" if time is None else f"{time:.3g}" for time in hours)),
        ("10^12 operations per step", *(f"{each.flops_per_step / 1e12:.3g}" for each in found.values())),
    ]
