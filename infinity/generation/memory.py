"""Working memory of drawing one picture, and how many are drawn at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from infinity.budget import per_pass, working_bytes
from infinity.generation.sampling import SamplingConfig
from infinity.scales import ScaleSchedule
from infinity.transformer import Transformer, TransformerConfig
from infinity.transformer.cache import CacheForm, bytes_per_token
from infinity.transformer.number_formats.precision import store_products_as
from infinity.transformer.number_formats.quantized import WeightForm, quantize_products

_FLOATS_PER_TOKEN = 9
"""Float32 numbers alive per token of the largest scale, and unit of width, in a block's feed-forward (measured)."""


def picture_bytes(
    config: TransformerConfig,
    schedule: ScaleSchedule,
    *,
    doubled: bool,
    cache_dtype: torch.dtype,
    cache_form: CacheForm | None = None,
) -> int:
    """Return about the working memory of one picture in the loop over scales, above the weights.

    Keys and values of all tokens in all blocks, and the activations of the largest scale.

    Args:
        schedule: Grids of the tokens.
        doubled: Whether an unconditional half runs beside (classifier-free guidance).
        cache_dtype: Data type of the keys and values.
        cache_form: Form in which they are cached; None for their data type.
    """
    cache = cache_bytes(config, schedule, cache_dtype, cache_form)
    if cache_form is not None:  # keys and values of one block, restored, and all scales of them in 8 bits
        cache += 8 * schedule.num_tokens * config.width
        cache += schedule.num_tokens * bytes_per_token(config.width, config.num_heads, cache_form, cache_dtype)
    largest = max(span.stop - span.start for span in schedule.spans)
    work = 4 * largest * (_FLOATS_PER_TOKEN * config.width + 4 * config.num_outputs)
    return int((2 if doubled else 1) * (cache + work))


def cache_bytes(
    config: TransformerConfig,
    schedule: ScaleSchedule,
    dtype: torch.dtype,
    form: CacheForm | None,
    shares: Sequence[float] = (),
) -> int:
    """Return the bytes of all cached keys and values of one picture without guidance.

    In 8 bits those of the last scale are not kept, nor are they by a block that keeps a share of earlier tokens.

    Args:
        shares: Share of earlier tokens that each block keeps; empty is all.
    """
    last = schedule.spans[-1]
    whole: int = last.stop if form is None else last.start
    tokens: int = sum(
        whole if share == 1 else max(1, math.ceil(share * last.start)) for share in shares or (1.0,) * config.depth
    )
    return tokens * bytes_per_token(config.width, config.num_heads, form, dtype)


def stored_weights(config: TransformerConfig, form: WeightForm | None, dtype: torch.dtype) -> Transformer:
    """Return a transformer on the device "meta", with its weights in the form in which drawing holds them.

    Args:
        form: Form of the blocks' weights; None for floating point.
        dtype: Data type of matrix products, bfloat16 or float32.
    """
    with torch.device("meta"):
        transformer = Transformer(config)
        if form is not None:
            quantize_products(transformer, form)
        elif dtype == torch.bfloat16:
            store_products_as(transformer, dtype)
    return transformer


def pictures_at_once(
    transformer: Transformer, schedule: ScaleSchedule, sampling: SamplingConfig, *, most: int, total: int
) -> int:
    """Return how many pictures one pass draws: at most ``most``, and as many as the device has memory for.

    Args:
        schedule: Grids of the tokens.
        sampling: Settings of sampling; with guidance a picture takes twice the memory.
        most: Largest number per pass.
        total: Number of all pictures.
    """
    device = transformer.start.device
    doubled = any(factor != 1.0 for factor in sampling.guidance_at(schedule))
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    bytes_each = picture_bytes(
        transformer.config, schedule, doubled=doubled, cache_dtype=dtype, cache_form=transformer.cache_form
    )
    return per_pass(min(most, total), bytes_each, working_bytes(device), what="pictures drawn")
