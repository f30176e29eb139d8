"""A folded generation, written down as a golden case by other code than the replay's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from infinity.convert import tokenizer_to_published, transformer_to_published
from infinity.generation import Conditions, SamplingConfig, sample_bits
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer import Transformer, TransformerConfig

TOKENIZER = TokenizerConfig(
    num_bits=4,
    base_width=32,
    num_downsamples=1,
    encoder_multipliers=(1, 1),
    decoder_multipliers=(1, 1),
    num_res_blocks=1,
    fold=True,
)
TRANSFORMER = TransformerConfig(width=32, num_heads=2, depth=2, num_bits=16, text_channels=128, max_text_tokens=8)
SCHEDULE = ScaleSchedule(aspect_ratio=1.0, grids=((1, 1), (2, 2), (3, 3)), frame=(3, 3))
VAE_FILE = "vae_state_dict.safetensors"


def write_folded_case(folder: Path, *, tokens: bool = False) -> None:
    """Write a case whose tokenizer lies in a file of its own beside it.

    Args:
        folder: Is made.
        tokens: Record bits of tokens instead of bits of the tokenizer's positions.
    """
    transformer, tokenizer = Transformer(TRANSFORMER), Tokenizer(TOKENIZER)
    transformer.init_weights(torch.Generator().manual_seed(0))
    tokenizer.init_weights(torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    with torch.no_grad():
        transformer.head.weight.normal_(std=0.5)
        transformer.head.bias.normal_()  # of random signs, so that planes differ
    text = TextCondition(torch.randn(7, 128), (3, 4))
    sampling = SamplingConfig(guidance=1.0, greedy=True)
    with torch.no_grad():
        sampled = sample_bits(
            transformer.eval(),
            tokenizer.eval(),
            Conditions(text, [torch.Generator()] * 2),
            schedule=SCHEDULE,
            sampling=sampling,
        )
    token_bits = [sampled.labels.scale(k).numpy() for k in range(SCHEDULE.num_scales)]
    planes = token_bits if tokens else [_positions(bits) for bits in token_bits]
    state = transformer_to_published(TRANSFORMER, transformer.state_dict(), num_chunks=1)
    files: dict[str, dict[str, Tensor]] = {
        "state_dict.safetensors": state,
        "inputs.safetensors": {"kv_compact": text.features_TD, "cu_seqlens_k": torch.tensor([0, 3, 7])},
        "outputs.safetensors": {f"bits.{k}": torch.from_numpy(bits).byte() for k, bits in enumerate(planes)},
        VAE_FILE: tokenizer_to_published(TOKENIZER, tokenizer.state_dict()),
    }
    folder.mkdir(parents=True)
    for name, tensors in files.items():
        safetensors.torch.save_file({key: each.contiguous() for key, each in tensors.items()}, folder / name)
    (folder / "case.json").write_text(json.dumps(_about(planes, files)))


def _about(planes: list[np.ndarray], files: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    return {
        "case": "autoregressive_inference",
        "infinity_config": {"apply_spatial_patchify": 1},
        "scale_schedule": [[1, h, w] for h, w in SCHEDULE.grids],
        "ratio_h_div_w": 1.0,
        "cfg_list": [1.0] * SCHEDULE.num_scales,
        "tau_list": [1.0] * SCHEDULE.num_scales,
        "decoding": "greedy",
        "vae_state_dict": VAE_FILE,
        "fraction_of_bit_planes_that_vary_in_space": [_varying(bits) for bits in planes],
        "files": {
            name: {
                key: {"shape": list(each.shape), "dtype": str(each.dtype).removeprefix("torch.")}
                for key, each in tensors.items()
            }
            for name, tensors in files.items()
        },
    }


def _positions(bits: np.ndarray) -> np.ndarray:
    """Channel 4 c + 2 dy + dx of a token is channel c of the position (2 y + dy, 2 x + dx) (goldens README, 6)."""
    batch, rows, columns, channels = bits.shape
    found = np.zeros((batch, 2 * rows, 2 * columns, channels // 4), bits.dtype)
    for channel in range(channels):
        c, dy, dx = channel // 4, channel % 4 // 2, channel % 2
        found[:, dy::2, dx::2, c] = bits[..., channel]
    return found


def _varying(bits: np.ndarray) -> float:
    planes = [bits[b, :, :, c] for b in range(bits.shape[0]) for c in range(bits.shape[3])]
    return sum(len(np.unique(plane)) > 1 for plane in planes) / len(planes)
