"""Measure the text encoder of the published models, with random weights of its size."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.cases import TEXT_TOKENS, TOKENIZERS, Case
from benchmarks.gpu.clock import Clock

FLAN_T5_XL = {"d_model": 2048, "d_ff": 5120, "d_kv": 64, "num_heads": 32, "num_layers": 24}
"""Sizes in Flan-T5-XL's own ``config.json`` (google/flan-t5-xl)."""
TINY = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2}


def text_encoder(sizes: dict[str, int], device: torch.device) -> Any:
    """Return a T5 encoder with random weights in bfloat16, as pipelines load it."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(**sizes, feed_forward_proj="gated-gelu", vocab_size=32128)
    with torch.device(device):
        return T5EncoderModel(config).to(torch.bfloat16).eval().requires_grad_(False)


def text(case: Case, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Time the features of prompts of 128 tokens."""
    encoder = text_encoder(FLAN_T5_XL if case.model in TOKENIZERS else TINY, device)
    tokens = torch.zeros(case.pictures, TEXT_TOKENS, dtype=torch.long, device=device)
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        figures = clock.measure(lambda: encoder(input_ids=tokens, attention_mask=mask))
    return figures | {"seconds_per_picture": figures["seconds"] / case.pictures}
