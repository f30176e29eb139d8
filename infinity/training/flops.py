"""Floating-point operations of a training step, and the peak of a device.

A multiplication and the addition after it are two operations. The backward pass takes twice those of the forward pass.
Recomputation by activation checkpointing is not counted, so that utilisation is that of the model (MFU as in PaLM,
arXiv:2204.02311, appendix B). Norms, activations and other element-wise work are left out: below one percent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infinity.scales import ScaleSchedule
from infinity.transformer.config import TransformerConfig
from infinity.transformer.flops import caption_flops, per_token_flops, text_memory_flops

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "RTX 3090": 71e12}
"""Dense bfloat16 FLOP/s with float32 sums from data sheets, by a substring of the device's name."""


def peak_flops(device: torch.device) -> float | None:
    """Return the FLOP/s of the device's data sheet; None for CPUs and unknown GPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAKS.items() if known in name), None)


def attended_pairs(schedule: ScaleSchedule) -> int:
    """Return the number of pairs of tokens whose first attends to the second, of its own scale or a coarser one."""
    return sum((span.stop - span.start) * span.stop for span in schedule.spans)


def forward_flops(config: TransformerConfig, schedule: ScaleSchedule, text_tokens: int) -> int:
    """Return the operations of one picture's forward pass.

    Args:
        text_tokens: Number of tokens of the caption.
    """
    width, tokens = config.width, schedule.num_tokens
    attention = 4 * width * (attended_pairs(schedule) + tokens * text_tokens)
    blocks = config.depth * (per_token_flops(config) * tokens + attention + text_memory_flops(config, text_tokens))
    ends = 2 * width * (config.num_bits * (tokens - schedule.spans[0].stop) + config.num_outputs * tokens)
    operations: int = blocks + ends + caption_flops(config, text_tokens)
    return operations


def training_flops(config: TransformerConfig, schedule: ScaleSchedule, text_lengths: Sequence[int]) -> int:
    """Return the operations of one step over pictures of one schedule, whose captions are padded to the longest."""
    return 3 * len(text_lengths) * forward_flops(config, schedule, max(text_lengths))
