"""Read the arguments that a published training checkpoint contains (repository infinity/utils/arg_util.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinity.checkpoint import CheckpointError
from infinity.checkpoint.record import typed
from infinity.scales import SIZES, Size
from infinity.transformer.config import Positions

_SIZES: dict[str, Size] = {"0.06M": "256", "0.25M": "512", "0.60M": "768", "1M": "1024"}
_POSITIONS: dict[int, Positions] = {0: "grid", 1: "interpolated", 2: "frame"}
_MUST_BE = {
    "use_bit_label": (1, "bitwise heads"),
    "rope2d_each_sa_layer": (1, "rotated positions in every layer"),
    "use_scale_schedule_embedding": (0, "no embedding of the schedule"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingArguments:
    """Arguments of the published training that change the meaning of its weights; None where the file has none.

    Attributes:
        size: Class of the pictures.
        positions: RoPE coordinates.
        scale_embedding_each_chunk: Whether the scale embedding is added before every chunk of blocks.
        norm_eps: Epsilon of all norms.
        fold: Whether 2x2 positions of the tokenizer make one token.
        tokenizer_file: Path of the tokenizer that the transformer was trained with.
    """

    size: Size | None = None
    positions: Positions | None = None
    scale_embedding_each_chunk: bool | None = None
    norm_eps: float | None = None
    fold: bool | None = None
    tokenizer_file: str | None = None


def read_arguments(found: Any, *, where: str) -> TrainingArguments:
    """Read the arguments of a training checkpoint.

    Args:
        found: Value of the file's key ``args``.
        where: Name of the file in error messages.

    Raises:
        CheckpointError: The value is not an object, has a value unknown to the published code, or describes a model
            that ours cannot be.
    """
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{where}: expected the arguments of a training under 'args', found {typed(found)}")
    for name, (needed, meaning) in _MUST_BE.items():
        if name in found and found[name] != needed:
            raise CheckpointError(
                f"{where}: trained with {name} {found[name]!r:.40}; only models with {meaning} ({name} "
                f"{needed}) can be read"
            )
    eps = found.get("norm_eps")
    if eps is not None and (isinstance(eps, bool) or not isinstance(eps, float | int) or not 0 <= eps < 1):
        raise CheckpointError(f"{where}: expected a norm_eps from 0 to below 1 among the arguments, found {typed(eps)}")
    only_first = _one_of(found, "add_lvl_embeding_only_first_block", {0: False, 1: True}, where)
    path = found.get("vae_ckpt")
    return TrainingArguments(
        size=_one_of(found, "pn", _SIZES, where),
        positions=_one_of(found, "rope2d_normalized_by_hw", _POSITIONS, where),
        scale_embedding_each_chunk=None if only_first is None else not only_first,
        norm_eps=None if eps is None else float(eps),
        fold=_one_of(found, "apply_spatial_patchify", {0: False, 1: True}, where),
        tokenizer_file=path if isinstance(path, str) and path else None,
    )


def size_in_name(source: str) -> Size | None:
    """Return the class in a file's name, as in ``infinity_125M_256x256.pth``; None without one."""
    name = source.rstrip("/").rsplit("/", 1)[-1]
    found = {match[1] for match in re.finditer(r"(?<!\d)(\d+)x\1(?!\d)", name)}
    return next((size for size in SIZES if {size} == found), None)


def agreed(name: str, given: Any, in_file: Any, default: Any, *, where: str) -> Any:
    """Return the caller's value or the file's, which may not differ; the default without either.

    Raises:
        CheckpointError: Both are there and differ.
    """
    if given is not None and in_file is not None and given != in_file:
        raise CheckpointError(
            f"{where}: {name}: the file was trained with {in_file}, but {given} is asked for; leave it out "
            "to follow the file"
        )
    return next((value for value in (given, in_file) if value is not None), default)


def _one_of(found: Mapping[Any, Any], name: str, known: Mapping[Any, Any], where: str) -> Any:
    if found.get(name) is None:
        return None
    try:
        return known[found[name]]
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{where}: expected {name} to be one of {', '.join(map(str, known))} among the training's arguments, found "
            f"{typed(found[name])}"
        ) from None
