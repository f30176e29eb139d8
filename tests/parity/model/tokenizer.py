"""Replay of the tokenizer (goldens README, section 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infinity.bits import BitLabels
from infinity.convert import tokenizer_from_published
from infinity.tokenizer import Tokenizer
from tests.parity.ledger import QUANTIZER, STATISTIC, TOKENIZER, Ledger
from tests.parity.model.quantizer import compare_quantized

_FIXED = {
    "image_channels": 3,
    "norm": "group",
    "cnn_type": "2d",
    "attention": False,
    "new_quant": True,
    "ln_before_quant": False,
    "use_decay_factor": False,
    "quantizer_projection": False,
}


def build_tokenizer(ledger: Ledger, state: dict[str, Tensor], *, fold: bool) -> Tokenizer:
    """Our tokenizer with a case's weights; the configuration in ``case.json`` must say what the shapes say."""
    published = tokenizer_from_published(state, where="state_dict", fold=fold)
    config = published.config
    about: dict[str, Any] = ledger.case.about.get("vae", {})
    widths = {
        "encoder": [config.base_width * m for m in config.encoder_multipliers],
        "decoder": [config.base_width * m for m in config.decoder_multipliers],
    }
    for name, own in widths.items():
        if f"{name}_ch_mult" in about:
            ledger.number(f"vae.{name} widths", own, [about["base_ch"] * m for m in about[f"{name}_ch_mult"]])
    found = {f"vae.{name}": config.num_bits for name in ("codebook_dim", "codebook_size_log2", "z_channels")}
    found |= {"vae.num_res_blocks": config.num_res_blocks, "vae.patch_size": config.autoencoder.stride_px}
    ledger.listed_numbers(found | {f"vae.{name}": value for name, value in _FIXED.items()})
    return published.build()


@torch.no_grad()
def replay_tokenizer(ledger: Ledger) -> None:
    """Encode, quantize, decode, and decode from bits."""
    case = ledger.case
    images = case.inputs["image"]
    tokenizer = build_tokenizer(ledger, case.state, fold=False)
    raw = tokenizer.encode(images)
    schedule = case.position_schedule(tuple(raw.shape[-2:]))
    ledger.close("raw_features", raw, TOKENIZER)
    # Quantize the recorded features, so that an encoder that is off by a rounding error cannot flip a bit here.
    features = case.expected.get("raw_features", raw)
    z = compare_quantized(ledger, features, schedule, summed_name="z")
    quantized = tokenizer.quantize(features, schedule)
    bits = [case.expected.get(f"bit_indices.{k}") for k in range(schedule.num_scales)]
    labels = quantized.labels
    if all(scale is not None for scale in bits):
        labels = BitLabels.from_scales(schedule, [scale.squeeze(1).bool() for scale in bits if scale is not None])
    unclamped = tokenizer.decoder(z)
    ledger.close("decoder_z_unclamped", unclamped, TOKENIZER)
    ledger.close("decode_z", tokenizer.decode(z), TOKENIZER)
    ledger.close("decode_raw_features", tokenizer.decode(features), TOKENIZER)
    ledger.close("summed_codes", tokenizer.sum_codes(labels).unsqueeze(2), QUANTIZER)
    ledger.close("decode_from_indices", tokenizer.decode_labels(labels), TOKENIZER)
    _compare_figures(ledger, images, unclamped)


def _compare_figures(ledger: Ledger, images: Tensor, unclamped: Tensor) -> None:
    """Figures that follow from the recorded tensors alone are checked exactly on them."""
    expected = ledger.case.expected
    ledger.listed_numbers({"image_hw": list(images.shape[-2:]), "batch": images.shape[0]})
    at_clamp = float((unclamped.abs() >= 1).double().mean())
    ledger.listed_numbers({"fraction_of_decoded_pixels_at_clamp": at_clamp}, STATISTIC)
    pairs = {
        "check_max_abs_z_minus_summed_codes": ("z", "summed_codes"),
        "check_max_abs_decode_z_minus_decode_from_indices": ("decode_z", "decode_from_indices"),
    }
    for name, (first, second) in pairs.items():
        if first in expected and second in expected:
            difference = expected[first] - expected[second].reshape(expected[first].shape)
            ledger.listed_numbers({name: float(difference.abs().max())}, 1e-9)
