"""How far each block of a transformer looks back, and what budget of the cache follows (ScaleKV, arXiv 2505.19602).

Blocks whose attention spreads over many earlier tokens need them; blocks that look at few tokens do without the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infinity.evaluation.benchmark import EvalContext
from infinity.evaluation.model import loaded_pipeline
from infinity.generation.generate import Conditions, begin_loop
from infinity.generation.sampling import picture_generator
from infinity.generation.steering import NOTHING
from infinity.transformer.budgeted_cache import attention_received
from infinity.transformer.cache import KeyValueCache

SPREAD = 1.5
"""Budget of the half of the blocks that look back furthest, in mean budgets; the other half gets the rest."""


class WatchedCache(KeyValueCache):
    """A cache that keeps all tokens, and notes over which share of the tokens so far the attention spreads.

    Attributes:
        spreads: Effective number of attended tokens (the exponential of the entropy), divided by the number of tokens,
            of every scale after the first; mean over pictures and heads.
    """

    def __init__(self, capacity: int, *, by_token: bool = False) -> None:
        """Start without any token."""
        super().__init__(capacity, by_token=by_token)
        self.spreads: list[Tensor] = []

    def forget(self, query: Tensor, keys: Tensor) -> None:
        """Note the spread; no token is given up."""
        if keys.shape[2] > query.shape[2]:
            received = attention_received(query, keys).double()
            entropy = -(received * received.clamp_min(1e-300).log()).sum(dim=-1)
            self.spreads.append((entropy.exp() / keys.shape[2]).mean())


@dataclass(frozen=True, slots=True)
class LookBack:
    """For every block, the sum over pictures of the share of earlier tokens that it attends to."""

    sums: tuple[float, ...]
    pictures: int

    def __add__(self, other: LookBack) -> LookBack:
        added = tuple(a + b for a, b in zip(self.sums, other.sums, strict=True))
        return LookBack(added, self.pictures + other.pictures)

    @property
    def shares(self) -> tuple[float, ...]:
        """Mean share of every block."""
        return tuple(each / self.pictures for each in self.sums)


@dataclass(frozen=True, slots=True)
class LookBackPart:
    """Work: draw a prompt and watch the attention of every block."""

    prompt: str

    @property
    def num_pictures(self) -> int:
        """One picture."""
        return 1

    @torch.no_grad()
    def compute(self, context: EvalContext) -> LookBack:
        """Draw one picture, without guidance, scale by scale."""
        pipeline, target = loaded_pipeline(context), context.target
        transformer, device = pipeline.transformer, pipeline.device
        schedule = pipeline.config.resolution.schedule(1.0)
        text = pipeline.text_encoder.encode([self.prompt]).to(device)
        conditions = Conditions(text, [picture_generator(self.prompt, target.seed, schedule)])
        with pipeline.autocast():
            sampling = target.sampling.replace(guidance=1.0, pruned=(), cache_share=1.0)
            loop = begin_loop(transformer, pipeline.tokenizer, conditions, schedule, sampling, NOTHING)
            watched = tuple(WatchedCache(each.capacity, by_token=each.by_token) for each in loop.decoding.caches)
            loop.decoding = replace(loop.decoding, caches=watched)
            for k in range(schedule.num_scales):
                loop.advance(k)
        return LookBack(tuple(float(sum(each.spreads)) / max(1, len(each.spreads)) for each in watched), 1)


def budgets(look_back: Sequence[float], share: float) -> tuple[float, ...]:
    """Return one share of the cache per block, with a given mean: more for blocks that look back further.

    Args:
        look_back: How far each block looks back.
        share: Mean share, above 0 to 1.

    Example:
        >>> budgets([0.9, 0.1, 0.2, 0.8], 0.5)
        (0.75, 0.25, 0.25, 0.75)
    """
    half = len(look_back) // 2
    if not half:
        return (share,) * len(look_back)
    large = min(1.0, SPREAD * share)
    small = (share * len(look_back) - large * half) / (len(look_back) - half)
    furthest = sorted(range(len(look_back)), key=lambda block: -look_back[block])[:half]
    return tuple(large if block in furthest else small for block in range(len(look_back)))
