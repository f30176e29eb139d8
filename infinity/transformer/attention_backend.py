"""The fused attention kernel of a GPU: torch's own choice, cuDNN, FlashAttention 2 or FlashAttention 3.

``INFINITY_ATTENTION`` in the environment chooses for a process and its workers, ``use_attention`` for a block of code.
Results differ by rounding alone. A choice holds for unmasked attention of 16-bit numbers on a GPU, which is all of
generation, and of a training with the kernel "windows" all but the coarse scales; the rest is left to torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Backend = Literal["auto", "cudnn", "flash", "flash3"]

BACKENDS: tuple[Backend, ...] = get_args(Backend)

VARIABLE = "INFINITY_ATTENTION"
"""Environment variable that chooses for a whole process and its workers; "auto" where it is not set."""

_IN_TORCH = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{VARIABLE}: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return name


_chosen: list[str] = [_checked(os.environ.get(VARIABLE, "auto"))]


@contextmanager
def use_attention(backend: Backend) -> Iterator[None]:
    """Use a fused kernel within a ``with`` block, in all threads of this process.

    Raises:
        ValueError: The name is unknown.
    """
    before, _chosen[0] = _chosen[0], _checked(backend)
    try:
        yield
    finally:
        _chosen[0] = before


def fused_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Compute softmax(scale * q k + bias) v of (B, N, L, E) by the chosen kernel.

    Raises:
        ValueError: FlashAttention 3 is chosen and not installed.
        RuntimeError: A kernel of torch is chosen that cannot serve these shapes on this GPU; raised by torch.
    """
    name = _chosen[0]
    if name == "auto" or bias is not None or query.device.type != "cuda" or query.dtype.itemsize != 2:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    if name == "flash3":
        parts = (each.transpose(1, 2) for each in (query, key, value))  # it reads all heads of a token side by side
        found = _flash3()(*parts, softmax_scale=scale)
        attended: Tensor = found[0] if isinstance(found, tuple) else found  # some versions add the sums of scores
        return attended.transpose(1, 2)
    with sdpa_kernel(_IN_TORCH[name]):
        return F.scaled_dot_product_attention(query, key, value, scale=scale)


@cache
def _flash3() -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = importlib.import_module("flash_attn_interface").flash_attn_func
    except ImportError as error:
        raise ValueError(
            f"{VARIABLE}: 'flash3' needs the package flash_attn_interface (FlashAttention 3, for Hopper GPUs), which "
            f"cannot be imported: {error}; install it, or take 'cudnn', 'flash' or 'auto'"
        ) from error
    return function
