"""Key-value cache with a budget: after each scale a block forgets the tokens that its queries attend to least.

After ScaleKV (arXiv 2505.19602): blocks that look back over many scales get a larger budget than blocks that look at
few tokens. How large each block's is, is a setting (``SamplingConfig.cache_share``).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from infinity.transformer.cache import CacheForm, KeyValueCache

MAX_OBSERVERS = 64
"""Most queries of a scale whose attention decides, spread evenly over it."""


class BudgetedCache(KeyValueCache):
    """Keys and values of the most attended tokens so far: a share of them, chosen for each picture and head.

    Attributes:
        share: Share of the tokens so far that is kept for later scales, above 0 and below 1; at least one token.
        seen: Number of tokens so far, kept or not.
    """

    def __init__(
        self, capacity: int, share: float, form: CacheForm | None = None, *, by_token: bool = False, last: int = 0
    ) -> None:
        """Start without any token; see ``KeyValueCache``."""
        super().__init__(capacity, form, by_token=by_token, last=last)
        self.share, self.seen = share, 0

    def extend(
        self, keys: Float[Tensor, "B N M E"], values: Float[Tensor, "B N M E"]
    ) -> tuple[Float[Tensor, "B N S E"], Float[Tensor, "B N S E"]]:
        """Return the kept keys and values and those of a new scale; ``forget`` must follow."""
        new = self.encode(keys, values)
        parts = [torch.cat(pair, dim=2) for pair in zip(self._stored, new, strict=True)] if self.length else list(new)
        self._stored = tuple(parts)
        self.length, self.seen = parts[0].shape[2], self.seen + keys.shape[2]
        return self.decode(parts, keys.dtype)

    def forget(self, query: Float[Tensor, "B N M E"], keys: Float[Tensor, "B N S E"]) -> None:
        """Keep the tokens to which a scale's queries attend most; after the last scale, none.

        Args:
            query: Scaled queries of the scale.
            keys: Result of ``extend``.
        """
        if self.seen == self.capacity:
            self._stored, self.length = (), 0
            return
        number = max(1, math.ceil(self.share * self.seen))
        if number >= self.length:
            return
        kept = attention_received(query, keys).topk(number, dim=-1).indices.sort(dim=-1).values.unsqueeze(-1)
        self._stored = tuple(part.gather(2, kept.expand(-1, -1, -1, part.shape[-1])) for part in self._stored)
        self.length = number

    def _of(self, stored: tuple[Tensor, ...]) -> BudgetedCache:
        cache = BudgetedCache(self.capacity, self.share, self.form, by_token=self.by_token, last=self.last)
        cache.length, cache.seen, cache._stored = self.length, self.seen, stored
        return cache


def attention_received(query: Float[Tensor, "B N M E"], keys: Float[Tensor, "B N S E"]) -> Float[Tensor, "B N S"]:
    """Return the mean attention of at most ``MAX_OBSERVERS`` queries to every token; the sum over tokens is 1."""
    observers = query[:, :, :: math.ceil(query.shape[2] / MAX_OBSERVERS)]
    return (observers.float() @ keys.float().transpose(-1, -2)).softmax(dim=-1).mean(dim=2)
