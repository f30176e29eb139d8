"""Replay of the teacher-forced transformer: logits, losses, gradients (goldens README, section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from infinity.convert import transformer_from_published, transformer_to_published
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.transformer import Transformer, attention
from infinity.transformer.config import Positions
from infinity.transformer.loss import bitwise_cross_entropy, likeliest_bits, scale_weights
from tests.parity.case import Case, CaseError
from tests.parity.ledger import GRADIENT_RELATIVE, LOGITS, LOSS, STATISTIC, Ledger

HALF_CROSS_ATTENTION = 0.6
"""Distance allowed to the recording with bfloat16 cross-attention, as a share of its own distance to exact logits.

Operands that differ by a float32 rounding error may round to neighbouring bfloat16 values, 0.4 % apart; over several
configurations this alone made up to a third of that distance.
"""
_HALF_FLOOR = 1e-2

_POSITIONS: dict[int, Positions] = {0: "grid", 1: "interpolated", 2: "frame"}

# Switches of the reference that change the forward pass, at the values of all released models.
_FIXED = {
    "rms_norm": False,
    "shared_aln": True,
    "head_aln": True,
    "rand_uncond": False,
    "nm0": False,
    "cos_attn": True,
    "swiglu": False,
    "head_depth": 1,
    "use_bit_label": 1,
    "rope2d_each_sa_layer": 1,
}


def build_transformer(ledger: Ledger) -> tuple[Transformer, int]:
    """Our transformer with a case's weights, and the chunks in the names of its blocks.

    What ``case.json`` says of the configuration must be what the shapes say.
    """
    about: dict[str, Any] = ledger.case.about["infinity_config"]
    for name, value in _FIXED.items():
        if name in about and about[name] != value:
            raise CaseError(f"infinity_config.{name}: only {value} is supported, found {about[name]}")
    mode = about.get("rope2d_normalized_by_hw", 2)
    if mode not in _POSITIONS:
        raise CaseError(f"infinity_config.rope2d_normalized_by_hw: expected one of {list(_POSITIONS)}, found {mode}")
    published = transformer_from_published(
        ledger.case.transformer_state(),
        where="state_dict",
        positions=_POSITIONS[mode],
        scale_embedding_each_chunk=not about.get("add_lvl_embeding_only_first_block", 1),
        norm_eps=about.get("norm_eps", 1e-6),
    )
    config = published.config
    found = {
        "text_channels": config.text_channels,
        "text_maxlen": config.max_text_tokens,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "block_chunks": published.num_chunks,
        "derived.d_vae_input": config.num_bits,
        "derived.head_outputs": config.num_outputs,
        "derived.head_dim": config.head_width,
        "derived.ffn_hidden": config.hidden_width,
        "derived.attn_pool_num_heads": config.num_pool_heads,
        "derived.attn_pool_head_dim": config.width // config.num_pool_heads,
        "derived.num_params": sum(parameter.numel() for parameter in Transformer(config).parameters()),
    }
    ledger.listed_numbers({f"infinity_config.{name}": value for name, value in found.items()})
    if "mlp_ratio" in about:
        hidden = config.replace(mlp_ratio=about["mlp_ratio"]).hidden_width
        ledger.number("infinity_config.mlp_ratio hidden width", config.hidden_width, hidden)
    has_gate = about.get("cross_attn_layer_scale", -1.0) >= 0
    ledger.number("infinity_config.cross_attn_layer_scale", config.cross_attention_layer_scale is not None, has_gate)
    return published.build(), published.num_chunks


def replay_transformer(ledger: Ledger) -> None:
    """Logits, losses and gradients in evaluation mode."""
    case = ledger.case
    model, num_chunks = build_transformer(ledger)
    schedule, text = case.schedule(), case.text()
    inputs, bits = _inputs_and_bits(case)
    logits = model(text, inputs, schedule)
    ledger.close("logits", logits.detach().flatten(2), LOGITS)
    per_token = bitwise_cross_entropy(logits, bits)
    ledger.close("loss_per_token", per_token.detach(), LOSS)
    losses = {
        "loss_mean": per_token.mean(),
        "loss_reweighted_by_scale": (per_token * scale_weights(schedule)).sum(dim=1).mean(),
    }
    norms = {"loss_mean": "grad_norm_of_loss_mean", "loss_reweighted_by_scale": "grad_norm_of_loss_reweighted"}
    for name, loss in losses.items():
        ledger.listed_numbers({name: float(loss.detach())}, LOSS)
        gradients = _gradients(model, loss, num_chunks)
        if name == "loss_mean":
            for parameter, gradient in gradients.items():
                ledger.gradient(f"grad.{parameter}", gradient)
        _compare_norms(ledger, norms[name], gradients)
    right = float((likeliest_bits(logits.detach(), bits.shape[-1]) == bits).double().mean())
    about = {"bit_accuracy": right, "checks.logits_std": float(logits.detach().std())}
    ledger.listed_numbers(about, STATISTIC)
    ledger.listed_numbers({"text_lens": list(text.lengths), "batch": text.batch_size, "mode": "eval()"})
    check_codebook_dim(ledger, bits.shape[-1])
    _compare_half_cross_attention(ledger, model, text, inputs, schedule)


def _inputs_and_bits(case: Case) -> tuple[Tensor, Tensor]:
    """As recorded; in a case of several parts those of its clean teacher forcing."""
    if "x_BLC_wo_prefix" in case.inputs:
        return case.inputs["x_BLC_wo_prefix"], case.inputs["gt_bits"].bool()
    names = sorted((n for n in case.expected if n.startswith("gt_bits_clean.")), key=lambda n: int(n.split(".")[1]))
    return case.expected["x_clean"], torch.cat([case.expected[name] for name in names], dim=1).bool()


def check_codebook_dim(ledger: Ledger, num_bits: int) -> None:
    """The bits of a position, or those of a token that folds four positions."""
    known = {num_bits, num_bits // 4} if ledger.case.folds else {num_bits}
    found = ledger.case.about.get("codebook_dim", num_bits)
    ledger.require(found in known, f"codebook_dim: expected one of {sorted(known)}, found {found}")


def _gradients(model: Transformer, loss: Tensor, num_chunks: int) -> dict[str, Tensor]:
    """By published name; zero where the loss does not depend on a parameter (the table of dropped captions)."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    own = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(named.items(), found, strict=True)
    }
    published = transformer_to_published(model.config, own, num_chunks=num_chunks)
    return {name: gradient for name, gradient in published.items() if not name.endswith("zero_k_bias")}


def _compare_norms(ledger: Ledger, name: str, gradients: dict[str, Tensor]) -> None:
    expected = ledger.case.about.get(name)
    if expected is None:
        return
    for parameter in sorted(set(expected) ^ set(gradients)):
        ledger.failures.append(f"{name}: {parameter} is {'unknown' if parameter in expected else 'missing'}")
    for parameter in set(expected) & set(gradients):
        norm = float(gradients[parameter].double().norm())
        ledger.number(f"{name}/{parameter}", norm, expected[parameter], GRADIENT_RELATIVE, relative=True)


@torch.no_grad()
def _compare_half_cross_attention(
    ledger: Ledger, model: Transformer, text: TextCondition, inputs: Tensor, schedule: ScaleSchedule
) -> None:
    """The reference rounds the operands of cross-attention to bfloat16; emulated, so that every tensor is judged."""
    name = "logits_upstream_bf16_cross_attention"
    expected = ledger.case.expected
    if name not in expected or "logits" not in expected:
        return
    distance = float((expected["logits"] - expected[name]).abs().max())
    ledger.listed_numbers({"checks.max_abs_vs_bf16_cross_attention": distance}, 1e-7)
    with _half_cross_attention():
        ledger.close(name, model(text, inputs, schedule).flatten(2), max(HALF_CROSS_ATTENTION * distance, _HALF_FLOOR))


@contextmanager
def _half_cross_attention() -> Iterator[None]:
    exact = attention.attend

    def rounded(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        if scale == 1.0:  # self-attention
            return exact(query, key, value, bias, scale)
        results = []
        for row in range(query.shape[0]):
            num_tokens = key.shape[2] if bias is None else int((bias[row] == 0).sum())
            # With its axis of the batch, for the kernel that keeps its sums in float32.
            q, k, v = (part[row : row + 1].bfloat16() for part in (query, key, value))
            results.append(F.scaled_dot_product_attention(q, k[:, :, :num_tokens], v[:, :, :num_tokens], scale=scale))
        return torch.cat(results).float()

    attention.attend = rounded
    try:
        yield
    finally:
        attention.attend = exact
