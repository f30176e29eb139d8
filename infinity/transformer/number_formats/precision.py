"""Data types of inference: the weights of a transformer's products stored in bfloat16, and the processors that have it.

Under autocast to bfloat16 every product rounds its weights to bfloat16 first. Weights that are stored rounded therefore
give the same bits, in half the memory and without a cast per pass.
"""

from __future__ import annotations

import torch
from torch import nn

from infinity.transformer.model import Transformer


def store_products_as(transformer: Transformer, dtype: torch.dtype) -> None:
    """Store the weights of the blocks' linear maps in another data type, in place, for inference under autocast.

    Everything that runs outside autocast stays float32: text projections, embeddings, norms, modulation and head.

    Args:
        transformer: Transformer in evaluation mode; it can not be trained any more.
    """
    for block in transformer.block_modules():
        for module in block.modules():
            if isinstance(module, nn.Linear):
                module.requires_grad_(False).to(dtype)


def check_bfloat16(device: torch.device) -> None:
    """Refuse bfloat16 on a processor that would only emulate it, slower than float32.

    Raises:
        ValueError: A CPU without instructions for bfloat16 (AVX-512 BF16, AMX, or those of Arm).
    """
    if not has_bfloat16(device):
        raise ValueError(
            "bfloat16: this processor has no instructions for it and would emulate it, slower than float32; leave "
            "bfloat16 out"
        )


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for products in bfloat16: every GPU, and newer processors."""
    return device.type != "cpu" or _has_instructions()


def _has_instructions() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
