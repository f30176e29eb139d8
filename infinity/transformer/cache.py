"""Key-value cache of generation, as it is or in 8 bits per number with a scale per token and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from infinity.config import one_of

CacheForm = Literal["int8"]
CACHE_FORMS: tuple[CacheForm, ...] = get_args(CacheForm)
_LEAST_SCALE = 2.0**-14
"""Smallest normal number of float16."""
_LARGEST_SCALE = 65504.0


class KeyValueCache:
    """Keys and values of the scales generated so far; memory for ``capacity`` tokens is taken at the first scale.

    In 8 bits, those of the last scale are not kept, since no later scale reads them: at 1024² they are two fifths.

    Attributes:
        by_token: Whether all heads of a token lie side by side in memory, as products write them and attention kernels
            of a GPU read them; else all tokens of a head do, which is faster on a CPU.
    """

    def __init__(self, capacity: int, form: CacheForm | None = None, *, by_token: bool = False, last: int = 0) -> None:
        """Start without any token.

        Args:
            capacity: Number of tokens of all scales.
            form: Form of the stored numbers; None for that of the keys and values themselves.
            by_token: Order in memory.
            last: Number of tokens of the last scale, which are not kept in 8 bits; 0 keeps all.
        """
        self.capacity, self.form, self.by_token = capacity, form, by_token
        self.last = 0 if form is None else last
        self.length = 0
        self._stored: tuple[Tensor, ...] = ()

    def extend(
        self, keys: Float[Tensor, "B N M E"], values: Float[Tensor, "B N M E"]
    ) -> tuple[Float[Tensor, "B N S E"], Float[Tensor, "B N S E"]]:
        """Store a scale's keys and values and return those of all scales so far, as they were stored."""
        new = self.encode(keys, values)
        if self.length == 0:
            self._stored = tuple(self._empty(each, self.capacity - self.last) for each in new)
        start, self.length = self.length, self.length + keys.shape[2]
        whole = self._stored
        if self.length > self.capacity - self.last:  # for this block alone, and given up after it
            whole = tuple(self._empty(each, self.capacity) for each in new)
            for all_scales, stored in zip(whole, self._stored, strict=True):
                all_scales[:, :, :start] = stored
        for stored, each in zip(whole, new, strict=True):
            stored[:, :, start : self.length] = each
        return self.decode([stored[:, :, : self.length] for stored in whole], keys.dtype)

    def forget(self, query: Float[Tensor, "B N M E"], keys: Float[Tensor, "B N S E"]) -> None:
        """Give up tokens after a scale, where the cache has a budget; this one keeps all."""

    def encode(self, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Return keys and values in the form in which they are stored."""
        return (keys, values) if self.form is None else (*to_int8(keys), *to_int8(values))

    def decode(self, parts: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return stored keys and values as numbers."""
        if self.form is None:
            return parts[0], parts[1]
        return from_int8(parts[0], parts[1], dtype), from_int8(parts[2], parts[3], dtype)

    def _empty(self, like: Tensor, tokens: int) -> Tensor:
        batch, heads, _, width = like.shape
        if self.by_token:
            return like.new_empty(batch, tokens, heads, width).transpose(1, 2)
        return like.new_empty(batch, heads, tokens, width)

    def first(self, batch_size: int) -> KeyValueCache:
        """Return a cache of the first samples, which shares the memory; the old one must not be used any more."""
        return self._of(tuple(stored[:batch_size] for stored in self._stored))

    def select(self, rows: Int[Tensor, " R"]) -> KeyValueCache:
        """Return a cache of some samples in memory of its own; a sample may occur several times."""
        return self._of(tuple(stored[rows] for stored in self._stored))

    def _of(self, stored: tuple[Tensor, ...]) -> KeyValueCache:
        cache = KeyValueCache(self.capacity, self.form, by_token=self.by_token, last=self.last)
        cache.length, cache._stored = self.length, stored
        return cache


def check_cache_form(name: str | None) -> CacheForm | None:
    """Return a form by its name; None for that of the keys and values themselves.

    Raises:
        ValueError: The name is unknown.
    """
    return one_of(name, CACHE_FORMS, "cache")


def to_int8(numbers: Float[Tensor, "B N M E"]) -> tuple[Int8[Tensor, "B N M E"], Float[Tensor, "B N M 1"]]:
    """Return whole numbers from -127 to 127, and the float16 scale of each token and head that restores the numbers.

    Example:
        >>> codes, scale = to_int8(torch.tensor([[[[1.0, -0.5, 0.25]]]]))
        >>> codes.flatten().tolist()
        [127, -64, 32]
    """
    largest = numbers.abs().amax(dim=-1, keepdim=True).float()
    scale = (largest / 127).clamp(_LEAST_SCALE, _LARGEST_SCALE).half()
    return (numbers.float() / scale.float()).round().clamp(-127, 127).to(torch.int8), scale


def from_int8(
    codes: Int8[Tensor, "B N S E"], scale: Float[Tensor, "B N S 1"], dtype: torch.dtype
) -> Float[Tensor, "B N S E"]:
    """Restore numbers in a data type."""
    return codes.float().mul_(scale).to(dtype)


def bytes_per_token(width: int, num_heads: int, form: CacheForm | None, dtype: torch.dtype) -> int:
    """Return the bytes of a token's keys and values in one block.

    Args:
        num_heads: Heads, each of which has a scale of its own.
        dtype: Data type of keys and values.
    """
    return 2 * (width * dtype.itemsize if form is None else width + 2 * num_heads)
