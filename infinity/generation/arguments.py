"""Check the arguments of the pipeline that have no class of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from infinity.generation.pipeline import seed_list
from infinity.scales import check_aspect_ratio, nearest_aspect_ratio

MAX_SEED = 2**63 - 1
Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


def aspect_ratio_of(height: int | None, width: int | None, ratio: float | None) -> float:
    """Return the nearest of the fifteen ratios (height / width); 1.0 where nothing is given.

    Raises:
        ValueError: Only one side is given, both sides and a ratio are, or a number is out of range.
    """
    if (height is None) != (width is None):
        raise ValueError(f"height and width: expected both or neither, got {height} and {width}")
    if height is not None and width is not None:
        if ratio is not None:
            raise ValueError("aspect_ratio: expected either height and width or a ratio, got both")
        if height < 1 or width < 1:
            raise ValueError(f"height and width: expected at least 1 pixel, got {height} and {width}")
        return nearest_aspect_ratio(check_aspect_ratio(height / width), 1.0)
    return nearest_aspect_ratio(1.0 if ratio is None else check_aspect_ratio(ratio), 1.0)


def picture_seeds(
    prompts: Sequence[str], seed: int | Sequence[int], generator: torch.Generator | None = None
) -> list[int]:
    """Return one seed per picture; a repeated prompt continues with the next seeds.

    Args:
        prompts: Prompt of each picture.
        seed: Seed of the first picture of every prompt, or one per picture.
        generator: Source of the seeds instead.

    Raises:
        ValueError: The number of seeds differs, or a generator and a seed are given.
    """
    if generator is not None:
        if seed != 0:
            raise ValueError("generator: expected either a generator or a seed, got both")
        return torch.randint(MAX_SEED, (len(prompts),), generator=generator, device=generator.device).tolist()
    if not isinstance(seed, int) and len(seed) != len(prompts):
        raise ValueError(f"seed: expected one number or {len(prompts)}, one per picture, got {len(seed)}")
    return seed_list(prompts, seed)


def one_seed_each(count: int, seed: int | Sequence[int]) -> list[int]:
    """Return the seeds of several pictures of one prompt.

    Raises:
        ValueError: There is no picture, or the number of seeds differs.
    """
    if count < 1:
        raise ValueError(f"num_images: expected at least 1, got {count}")
    return picture_seeds([""] * count, seed)


def is_bfloat16(dtype: Dtype | torch.dtype) -> bool | None:
    """Return whether a data type is bfloat16; None for "auto".

    Raises:
        ValueError: It is none of those that a model can compute in.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {name!r:.80}")
    return None if name == "auto" else name == "bfloat16"
