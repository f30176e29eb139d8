"""Initial values of the weights (paper 3.3; repository infinity.py, init_param.py and scripts/train.sh)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from infinity.transformer.model import Transformer

_HEAD_FACTOR = 0.02
"""Factor of the head's weights: bits are near uniform at the start, and the loss begins at ln 2."""

_GATE_FACTOR = 5e-6
"""Factor of a block's own gate offsets, near zero, so that the shared projection opens the branches."""

_SHIFT_FACTOR = 1e-3
"""Factor of a block's own scales and shifts, and of the head's projection of the caption."""


@torch.no_grad()
def init_weights(model: Transformer, generator: torch.Generator) -> None:
    """Draw every parameter of ``model``; equal generators give equal weights on one kind of device."""
    width = model.config.width
    std = math.sqrt(1 / (3 * width))  # variance of a uniform draw within 1/sqrt(width)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.normal_(std=std, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.reset_parameters()
    for table in (model.start, model.scale_embedding, model.pool.query):
        if table is not None:
            table.normal_(std=std, generator=generator)
    _init_unconditional(model.unconditional_text, generator)
    model.head.weight.mul_(_HEAD_FACTOR)
    model.head_modulate.weight.mul_(_SHIFT_FACTOR)
    _init_blocks(model, generator)
    if model.learned_positions is not None:
        for table in model.learned_positions.parameters():
            table.normal_(std=std, generator=generator)


def _init_unconditional(table: nn.Parameter, generator: torch.Generator) -> None:
    """Draw rows of length about 1.2; the text norm brings any length to that of real captions."""
    table.normal_(std=1.2, generator=generator).clamp_(-2.0, 2.0).div_(math.sqrt(table.shape[1]))


def _init_blocks(model: Transformer, generator: torch.Generator) -> None:
    config = model.config
    shrink = 1 / math.sqrt(2 * config.depth)  # the variance of the residual stream must not grow with depth
    for block in model.block_modules():
        for project in (block.self_attention.project, block.cross_attention.project, block.feed_forward.contract):
            project.weight.mul_(shrink)
        block.self_attention.query_bias.zero_()
        block.self_attention.log_scale.fill_(math.log(4.0))
        block.modulation_offset.normal_(std=config.width**-0.5, generator=generator)
        block.modulation_offset[:2].mul_(_GATE_FACTOR)
        block.modulation_offset[2:].mul_(_SHIFT_FACTOR)
        if block.cross_gate is not None and config.cross_attention_layer_scale is not None:
            block.cross_gate.fill_(config.cross_attention_layer_scale)
