"""Check the arguments of the pipeline that have no class of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch

from infinity.generation.pipeline import index, prompt_list, seed_list
from infinity.generation.sampling import PyramidGuidance, SamplingConfig
from infinity.scales import check_aspect_ratio, nearest_aspect_ratio

MAX_SEED = 2**63 - 1
MOST_PICTURES = 100_000
"""Most pictures per prompt of one call, as of one command."""
Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of any library as an int.

    Raises:
        ValueError: It is none, or too small; the message names the argument.
    """
    try:
        found = index(value)
    except TypeError:
        raise ValueError(f"{name}: expected a whole number, got {value!r:.80}") from None
    if found < least:
        raise ValueError(f"{name}: expected at least {least}, got {found}")
    return found


def real_number(name: str, value: Any) -> float:
    """Return a number of any library as a plain one.

    Raises:
        ValueError: It is none; the message names the argument.
    """
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise ValueError(f"{name}: expected a number, got {value!r:.80}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number below 1e308, got one of hundreds of digits") from None


def _per_scale(name: str, value: Any) -> float | tuple[float, ...]:
    """Return a number, or the numbers of a list, an array or a tensor."""
    found = value.tolist() if isinstance(value, np.ndarray | torch.Tensor) else value
    if isinstance(found, list | tuple):
        return tuple(real_number(name, each) for each in found)
    return real_number(name, found)


def sampling_config(
    guidance: Any, temperature: Any, top_p: Any, negative_prompt: Any, pruned: Any = (), cache_share: Any = 1.0
) -> SamplingConfig:
    """Return the settings of sampling from the arguments of a call.

    Raises:
        ValueError: An argument is of another type, or out of range.
    """
    if negative_prompt is not None:
        if not isinstance(negative_prompt, str):
            kind = type(negative_prompt).__name__
            raise ValueError(f"negative_prompt: expected one text for all pictures, got {kind}")
        prompt_list(negative_prompt)
    pyramid = isinstance(guidance, PyramidGuidance)
    return SamplingConfig(
        guidance=guidance if pyramid else _per_scale("guidance_scale", guidance),
        temperature=_per_scale("temperature", temperature),
        nucleus=real_number("top_p", top_p),
        negative_prompt=negative_prompt,
        pruned=_tuple_of("pruned", pruned),
        cache_share=_per_scale("cache_share", cache_share),
    )


def _tuple_of(name: str, value: Any) -> tuple[float, ...]:
    """Return one number, or those of a list or array, as a tuple."""
    found = _per_scale(name, value)
    return found if isinstance(found, tuple) else (found,)


def place_text(name: str, place: Any) -> str:
    """Return a place, given as a text or a ``pathlib.Path``, as a text.

    Raises:
        ValueError: It is neither.
    """
    found = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    if not isinstance(found, str):
        raise ValueError(f"{name}: expected a path, a URI or a name, got {place!r:.80}")
    return found


def aspect_ratio_of(height: int | None, width: int | None, ratio: float | None) -> float:
    """Return the nearest of the fifteen ratios (height / width); 1.0 where nothing is given.

    Raises:
        ValueError: Only one side is given, both sides and a ratio are, or a number is out of range.
    """
    if (height is None) != (width is None):
        raise ValueError(f"height and width: expected both or neither, got {height} and {width}")
    if height is not None and width is not None:
        height, width = real_number("height", height), real_number("width", width)  # type: ignore[assignment]
        if ratio is not None:
            raise ValueError("aspect_ratio: expected either height and width or a ratio, got both")
        if height < 1 or width < 1:
            raise ValueError(f"height and width: expected at least 1 pixel, got {height} and {width}")
        return nearest_aspect_ratio(check_aspect_ratio(height / width), 1.0)
    return nearest_aspect_ratio(1.0 if ratio is None else check_aspect_ratio(real_number("aspect_ratio", ratio)), 1.0)


def picture_seeds(
    prompts: Sequence[str],
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> list[int]:
    """Return one seed per picture; a repeated prompt continues with the next seeds.

    Args:
        prompts: Prompt of each picture.
        seed: Seed of the first picture of every prompt, or one per picture; None is 0.
        generator: Source of the seeds instead, or one per picture.

    Raises:
        ValueError: The number of seeds differs, one is no whole number, or a generator and a seed are given.
    """
    if generator is not None:
        if seed is not None and (not isinstance(seed, int) or seed != 0):
            raise ValueError("generator: expected either a generator or a seed, got both")
        if isinstance(generator, torch.Generator):
            return _drawn_seeds(generator, len(prompts))
        given = list(generator) if isinstance(generator, list | tuple) else []
        if len(given) != len(prompts) or not all(isinstance(each, torch.Generator) for each in given):
            found = f"{len(given)} in a {type(generator).__name__}" if given else type(generator).__name__
            raise ValueError(f"generator: expected one torch.Generator, or {len(prompts)} in a list, got {found}")
        return [seed for each in given for seed in _drawn_seeds(each, 1)]
    try:
        return seed_list(prompts, seed)
    except ValueError as error:
        expected = f"one number or {len(prompts)}, one per picture, of at most 64 bits"
        raise ValueError(f"seed: expected {expected}, got {seed!s:.80}") from error


def _drawn_seeds(generator: torch.Generator, count: int) -> list[int]:
    return torch.randint(MAX_SEED, (count,), generator=generator, device=generator.device).tolist()


def picture_count(name: str, value: Any) -> int:
    """Return a number of pictures of one prompt.

    Raises:
        ValueError: It is no whole number, below 1, or more than a call can hold.
    """
    count = whole_number(name, value)
    if count > MOST_PICTURES:
        raise ValueError(f"{name}: expected at most {MOST_PICTURES:,}, got {count:,}; draw them in several calls")
    return count


def one_seed_each(count: int, seed: int | Sequence[int]) -> list[int]:
    """Return the seeds of several pictures of one prompt.

    Raises:
        ValueError: There is no picture, or the number of seeds differs.
    """
    return picture_seeds([""] * picture_count("num_images", count), seed)


def is_bfloat16(dtype: Dtype | torch.dtype) -> bool | None:
    """Return whether a data type is bfloat16; None for "auto".

    Raises:
        ValueError: It is none of those that a model can compute in.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {name!r:.80}")
    return None if name == "auto" else name == "bfloat16"
