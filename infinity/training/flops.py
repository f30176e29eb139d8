"""How many floating-point operations a training step needs, and how many a device can do.

A multiplication and the addition after it are two operations. The backward pass takes twice those of the forward pass;
what activation checkpointing computes again is not counted, so that utilisation stays that of the model (MFU as in
PaLM, arXiv:2204.02311, appendix B). Norms, activations and other element-wise work are left out: below a percent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infinity.scales import ScaleSchedule
from infinity.transformer.config import TransformerConfig

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "RTX 3090": 71e12}
"""Dense bfloat16 operations a second with float32 sums, from data sheets, by a part of the device's name."""


def peak_flops(device: torch.device) -> float | None:
    """Operations a second that the device is sold with; None where no data sheet says so, as for CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def visible_pairs(schedule: ScaleSchedule) -> int:
    """Pairs of tokens of which the first sees the second: of its own scale or a coarser one."""
    return sum((span.stop - span.start) * span.stop for span in schedule.spans)


def forward_flops(config: TransformerConfig, schedule: ScaleSchedule, text_tokens: int) -> int:
    """Operations of one picture's forward pass.

    Args:
        config: Shape of the transformer.
        schedule: Grids of the picture.
        text_tokens: Of its caption.
    """
    width, tokens = config.width, schedule.num_tokens
    a_token = 2 * width * (4 * width + 2 * width + 2 * config.hidden_width)  # self-attention, cross-attention, MLP
    attention = 4 * width * (visible_pairs(schedule) + tokens * text_tokens)
    text = 4 * width * width * text_tokens  # keys and values of cross-attention
    blocks = config.depth * (a_token * tokens + attention + text)
    ends = 2 * width * (config.num_bits * (tokens - schedule.spans[0].stop) + config.num_outputs * tokens)
    channels = config.text_channels
    caption = text_tokens * (2 * channels * 2 * width + 2 * width * (channels + width)) + 2 * width * 9 * width
    operations: int = blocks + ends + caption
    return operations


def training_flops(config: TransformerConfig, schedule: ScaleSchedule, text_lengths: Sequence[int]) -> int:
    """Operations of one step over pictures of one schedule, whose captions are padded to the longest."""
    return 3 * len(text_lengths) * forward_flops(config, schedule, max(text_lengths))
