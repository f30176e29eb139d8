"""Floating-point operations of drawing one picture, by its settings; a multiplication and an addition are two.

Counted are the transformer's products. Text encoder and decoder, which no setting of sampling changes, are not, nor are
norms and other element-wise work.
"""

from __future__ import annotations

import math

from infinity.generation.pruning import PrunedScales
from infinity.generation.sampling import SamplingConfig
from infinity.generation.scale_loop import SamplingPlan
from infinity.scales import ScaleSchedule
from infinity.transformer.budgeted_cache import MAX_OBSERVERS
from infinity.transformer.config import TransformerConfig
from infinity.transformer.flops import caption_flops, per_token_flops, text_memory_flops


def drawing_flops(
    config: TransformerConfig, schedule: ScaleSchedule, sampling: SamplingConfig, text_tokens: int
) -> int:
    """Return the transformer's operations for one picture.

    Args:
        schedule: Grids of the tokens.
        text_tokens: Number of tokens of the caption, and of the unconditional one.

    Raises:
        ValueError: The settings do not fit the number of scales or blocks.
    """
    plan = SamplingPlan.of(sampling, schedule, config.depth)
    left_out = PrunedScales(sampling.pruned, schedule).shares
    shares = sampling.cache_shares(config.depth)
    width, captions = config.width, 2 if plan.num_doubled else 1
    total = captions * (config.depth * text_memory_flops(config, text_tokens) + caption_flops(config, text_tokens))
    kept, seen = [0] * config.depth, 0
    for k, span in enumerate(schedule.spans):
        rows, tokens = 2 if k < plan.num_doubled else 1, span.stop - span.start
        computed = max(1, tokens - int(left_out[k] * tokens))
        seen += computed
        for block, share in enumerate(shares):
            attended = kept[block] + computed
            kept[block] = attended if share == 1 else min(attended, max(1, math.ceil(share * seen)))
            observers = 0 if share == 1 or seen == schedule.num_tokens else min(computed, MAX_OBSERVERS)
            attention = 4 * width * computed * (attended + text_tokens) + 2 * width * observers * attended
            total += rows * (per_token_flops(config) * computed + attention)
        total += rows * 2 * width * config.num_bits * tokens if k else 0
        guided = plan.guide_logits and plan.guidance[k] != 1.0
        modulation = 4 * width * width if k else 0  # of the head; that of the first scale is the caption's
        total += (rows if guided else 1) * (2 * width * config.num_outputs * tokens + modulation)
    return total
