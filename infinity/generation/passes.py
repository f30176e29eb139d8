"""Draw any number of pictures of one size, in passes that fit the memory of the device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from infinity.bits import BitLabels
from infinity.generation.generate import Generated, OnProgress, generate
from infinity.generation.memory import pictures_at_once
from infinity.generation.placement import ReleasedTextEncoder
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import PictureSteering
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition, TextEncoder
from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer

Models = tuple[Transformer, Tokenizer, TextEncoder]
"""Transformer and tokenizer in evaluation mode, on one device, and the text encoder of the training."""


def generate_in_passes(
    models: Models,
    prompts: Sequence[str],
    *,
    schedule: ScaleSchedule,
    sampling: SamplingConfig,
    seeds: Sequence[int],
    batch_size: int | None = None,
    progress: OnProgress | None = None,
    steering: PictureSteering | None = None,
) -> Generated:
    """Generate one picture per prompt, like ``generate``, but never more at once than memory allows.

    Args:
        models: Transformer, tokenizer and text encoder.
        prompts: Prompts, at least one.
        schedule: Grids of the tokens.
        sampling: Guidance, temperature and top-p.
        seeds: One seed per prompt.
        batch_size: Most pictures per pass; None for all.
        progress: Called with the fraction done, from 0 to 1.
        steering: Bits taken over from other pictures, later prompts, and a callback per scale.

    Raises:
        ValueError: The numbers of prompts and seeds differ, or the models do not fit each other.
    """
    total = len(prompts)
    if total != len(seeds):
        raise ValueError(f"generate: expected one seed per prompt, got {total} prompts and {len(seeds)} seeds")
    size = pictures_at_once(models[0], schedule, sampling, most=batch_size or max(1, total), total=max(1, total))
    transformer, _, text_encoder = models

    def encode(texts: Sequence[str]) -> TextCondition:
        return text_encoder.encode(texts).to(transformer.start.device)

    passes: list[Generated] = []
    parts = [slice(start, min(start + size, total)) for start in range(0, max(1, total), size)]
    steering = steering or PictureSteering()
    with _prepared(text_encoder, _texts(parts, prompts, sampling, steering)):
        for rows in parts:

            def report(share: float, rows: slice = rows) -> None:
                if progress is not None:
                    progress((rows.start + share * (rows.stop - rows.start)) / total)

            passes.append(
                generate(
                    *models,
                    prompts[rows],
                    schedule=schedule,
                    sampling=sampling,
                    seeds=seeds[rows],
                    progress=report,
                    steering=steering.batch(rows, encode),
                )
            )
    return _joined(passes)


def _texts(
    parts: Sequence[slice], prompts: Sequence[str], sampling: SamplingConfig, steering: PictureSteering
) -> list[Sequence[str]]:
    """Return the batches of texts that the passes encode."""
    found = [prompts[rows] for rows in parts]
    if sampling.negative_prompt is not None:
        found += [[sampling.negative_prompt] * len(prompts[rows]) for rows in parts]
    return found + [steering.later_prompts[rows] for rows in parts if steering.later_prompts]


def _prepared(text_encoder: TextEncoder, batches: list[Sequence[str]]) -> AbstractContextManager[None]:
    """Encode all texts first, where the encoder is not to stay in memory; each batch has the features of its pass."""
    if isinstance(text_encoder, ReleasedTextEncoder):
        return text_encoder.prepared([batch for batch in batches if batch])
    return nullcontext()


def _joined(passes: Sequence[Generated]) -> Generated:
    if len(passes) == 1:
        return passes[0]
    schedule = passes[0].labels.schedule
    return Generated(
        images_BHW3=torch.cat([each.images_BHW3 for each in passes]),
        labels=BitLabels(schedule, torch.cat([each.labels.bits_BLC for each in passes])),
    )
