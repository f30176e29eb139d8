"""``infinity serve``: a server of pictures with OpenAI's images API and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import Cluster, clear_errors, err
from infinity.cli.model import drawing_options as options

if TYPE_CHECKING:
    from infinity.serving.settings import ServingConfig


def serve(
    model: Annotated[str, typer.Argument(help="Model folder, folder of a run, s3:// URI or hub name.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="File of API keys, one per line, at least 16 characters each.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", help="Adapter that requests may ask for, as name=place; may be repeated."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per copy.")] = 0.0,
    max_images: Annotated[int, typer.Option(min=1, help="Pictures per request.")] = 10,
    max_waiting: Annotated[int, typer.Option(min=1, help="Pictures that wait; more are answered by 429.")] = 64,
    max_batch: Annotated[int, typer.Option(min=1, help="Pictures per pass; changes no picture.")] = 8,
    drain_s: Annotated[
        float, typer.Option("--drain-s", min=1, help="Seconds in which accepted requests are finished before the end.")
    ] = 600.0,
    device: Annotated[str | None, typer.Option(help="Where to compute; the fastest there is if left out.")] = None,
    quantize: options.Quantize = None,
    cache: options.Cache = None,
    text_device: options.TextDevice = None,
    offload: options.Offload = False,
    watermark_key_file: options.WatermarkKeyFile = None,
    watermark_strength: options.WatermarkStrength = None,
    ray_address: Cluster = None,
) -> None:
    """Serve a model until interrupted: OpenAI's images API, a page at /, /health and /metrics."""
    with clear_errors():
        from infinity.jobs.serving import ServePlan, serve_until_stopped
        from infinity.serving.admission import LOOPBACK
        from infinity.serving.settings import ServingLimits

        if host not in LOOPBACK and keys is None:
            raise ValueError(f"--host: {host} can be reached by others; expected --keys with a file of API keys")
        limits = ServingLimits(max_images=max_images, max_waiting=max_waiting, max_batch=max_batch)
        placed = {"device": device, "text_device": text_device, "offload": offload}
        config = _config(model, lora or (), keys, quantize=quantize, cache=cache, limits=limits, **placed)
        config = _marked(config, watermark_key_file, watermark_strength)
        plan = ServePlan(serving=config, host=host, port=port, replicas=replicas, gpus=gpus)
        plan = plan.replace(drain_s=drain_s, address=ray_address or None)
        serve_until_stopped(plan, lambda address: err.print(f"serving at {address}", markup=False, highlight=False))


def _config(
    model: str, lora: Sequence[str], keys: Path | None, *, quantize: str | None, cache: str | None, **others: Any
) -> ServingConfig:
    """Return what a replica needs; a wrong adapter is told now, not by a replica."""
    from infinity import storage
    from infinity.generation.files.hub import is_hub_name
    from infinity.generation.files.model_folder import model_folder
    from infinity.serving.settings import ServingConfig, read_keys
    from infinity.transformer.adapters.lora_files import load_adapter
    from infinity.transformer.cache import check_cache_form
    from infinity.transformer.number_formats.quantized import check_weight_form

    named = [_named(text) for text in lora]
    adapters = dict(named)
    if len(adapters) < len(named):
        raise ValueError(f"--lora: expected a name of its own for each adapter, got {', '.join(n for n, _ in named)}")
    for adapter in adapters.values():
        load_adapter(adapter)
    return ServingConfig(
        model=model if is_hub_name(model) else model_folder(storage.absolute(model)),
        quantize=check_weight_form(quantize),
        cache=check_cache_form(cache),
        adapters=adapters,
        key_digests=() if keys is None else tuple(read_keys(storage.read_text(str(keys)), where=str(keys))),
        **others,
    )


def _marked(config: ServingConfig, key_file: str | None, strength: float | None) -> ServingConfig:
    """Return the settings with a watermark, if there is one; a wrong key is told now."""
    from infinity import storage

    options.watermark_of(key_file, strength)
    if key_file is not None and not key_file.startswith("env:"):
        key_file = storage.absolute(key_file)
    return config.replace(watermark_key=key_file, watermark_strength=strength)


def _named(text: str) -> tuple[str, str]:
    from infinity import storage

    name, equals, place = text.partition("=")
    if not equals or not name or not place:
        raise ValueError(f"--lora: expected name=place, got {text!r:.80}")
    return name, storage.absolute(place)
