"""Measure drawing, and the tokenizer's two directions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from benchmarks.gpu.cases import TEXT_TOKENS, Case
from benchmarks.gpu.clock import Clock
from infinity.generation import Conditions, SamplingConfig, sample_bits, to_uint8
from infinity.generation.compiled import compile_for_drawing
from infinity.generation.graphs import capture_scales
from infinity.presets import tokenizer_preset, transformer_preset
from infinity.scales import Resolution, ScaleSchedule
from infinity.text import TextCondition
from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer
from infinity.transformer.number_formats.precision import store_products_as
from infinity.transformer.number_formats.quantized import quantize_products

LATE_SCALES = 4
"""Number of last scales that are timed apart: 9 to 12 of thirteen."""


def _tokenizer(case: Case, device: torch.device) -> Tokenizer:
    with torch.device(device):
        tokenizer = Tokenizer(tokenizer_preset(case.tokenizer))
    tokenizer.init_weights(torch.Generator(device).manual_seed(0))
    return tokenizer.eval()


def _transformer(case: Case, device: torch.device) -> Transformer:
    with torch.device(device):
        transformer = Transformer(transformer_preset(case.model))
    transformer.init_weights(torch.Generator(device).manual_seed(0))
    if case.quantized is not None:
        quantize_products(transformer, case.quantized)
    if case.bfloat16:
        store_products_as(transformer, torch.bfloat16)
    return transformer.eval()


def picture(case: Case, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Time whole pictures from text features to 8-bit pixels, and their parts."""
    transformer, tokenizer = _transformer(case, device), _tokenizer(case, device)
    if case.compiled:
        compile_for_drawing(transformer, tokenizer)
    if case.graphs:
        capture_scales(transformer)
    schedule = Resolution(size=case.size).schedule(1.0)
    parts: dict[str, list[float]] = {"coarse_scales_s": [], "late_scales_s": [], "decoder_s": []}

    def draw() -> None:
        _draw(case, (transformer, tokenizer), schedule, clock, parts)

    with torch.autocast(device.type, torch.bfloat16, enabled=case.bfloat16):
        figures = clock.measure(draw)
    medians = {name: statistics.median(seconds[1:]) for name, seconds in parts.items()}
    return figures | medians | {"seconds_per_picture": figures["seconds"] / case.pictures}


def _draw(
    case: Case,
    models: tuple[Transformer, Tokenizer],
    schedule: ScaleSchedule,
    clock: Clock,
    parts: dict[str, list[float]],
) -> None:
    transformer, tokenizer = models
    config, device = transformer.config, transformer.start.device
    tokens = min(TEXT_TOKENS, config.max_text_tokens)
    text = TextCondition(
        torch.randn(case.pictures * tokens, config.text_channels, device=device), (tokens,) * case.pictures
    )
    guided = schedule.num_scales - case.guidance_off
    sampling = SamplingConfig(guidance=(3.0,) * guided + (1.0,) * case.guidance_off)
    generators = [torch.Generator().manual_seed(number) for number in range(case.pictures)]
    marks = [time.perf_counter()]
    border = schedule.spans[-min(LATE_SCALES, schedule.num_scales - 1)].start / schedule.num_tokens

    def passed(share: float) -> None:
        if abs(share - border) < 1e-9 or share == 1.0:
            clock.wait()
            marks.append(time.perf_counter())

    sampled = sample_bits(
        transformer, tokenizer, Conditions(text, generators), schedule=schedule, sampling=sampling, progress=passed
    )
    with torch.no_grad():
        to_uint8(tokenizer.decode(sampled.summed_BCHW))
    marks.append(time.perf_counter())
    for seconds, (before, after) in zip(parts.values(), pairwise(marks), strict=True):
        seconds.append(after - before)


def encode(case: Case, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Time the encoder in float32, as trainings use it."""
    tokenizer = _tokenizer(case, device)
    size = Resolution(size=case.size).schedule(1.0).image_size_px(tokenizer.config.stride_px)
    images = torch.zeros(case.pictures, 3, *size, device=device)
    return _per_picture(case, clock, lambda: tokenizer.encode(images))


def decode(case: Case, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Time the decoder."""
    tokenizer = _tokenizer(case, device)
    schedule = Resolution(size=case.size).schedule(1.0)
    grid = (schedule.unfolded() if tokenizer.config.fold else schedule).last_grid
    features = torch.zeros(case.pictures, tokenizer.config.num_bits, *grid, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=case.bfloat16):
        return _per_picture(case, clock, lambda: tokenizer.decode(features))


def _per_picture(case: Case, clock: Clock, call: Callable[[], object]) -> dict[str, Any]:
    with torch.no_grad():
        figures = clock.measure(call)
    return figures | {"seconds_per_picture": figures["seconds"] / case.pictures}
