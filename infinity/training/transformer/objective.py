"""The loss of a transformer: predict the bits of every scale from the caption and the coarser scales (paper 3.3, 3.4).

Bitwise self-correction (paper 3.4) flips some bits of the coarser scales, so that the transformer learns to repair its
own errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from infinity.bits import BitLabels
from infinity.config import Config
from infinity.ranges import Count, NotNegative, Share
from infinity.scales import ScaleSchedule
from infinity.tokenizer.self_correction import TeacherForcing, draw_flips, teacher_forcing, teacher_forcing_of_bits
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.flops import training_flops
from infinity.training.learner import Losses
from infinity.training.loaders.latents import LatentBatch
from infinity.training.state import MetricRow
from infinity.transformer.loss import (
    accuracy_per_bit,
    accuracy_per_scale,
    log_partition_penalty,
    scale_weights,
    token_cross_entropy,
)
from infinity.transformer.model import Transformer

Weighting = Literal["by_scale", "by_token"]
"""Weight of a token: 1 / sqrt(tokens of its scale), as published, or the same for all tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerObjective(Config):
    """Settings of the loss.

    Attributes:
        self_correction: Highest rate of flipped bits in the coarser scales, 0 to 1; 0.3 is the paper's best.
        weighting: Weighting of the tokens of different scales.
        z_loss: Weight of the squared log partition function (z-loss), which keeps logits from drifting; 0 is none,
            1e-4 is usual.
        num_scales: Number of first scales that are trained on, which saves the memory of the finer ones; None for
            all.
        flips_only: Whether flips change the inputs alone, and no label undoes them (paper Table 7's control).
    """

    self_correction: Share = 0.3
    weighting: Weighting = "by_scale"
    z_loss: NotNegative = 0.0
    num_scales: Count | None = None
    flips_only: bool = False

    def __post_init__(self) -> None:
        if self.flips_only and self.self_correction == 0:
            raise ValueError("flips_only: expected a self_correction above 0, the rate of the flips, got 0")

    def trained(self, schedule: ScaleSchedule) -> ScaleSchedule:
        """Return the grids that are trained on."""
        if self.num_scales is None or self.num_scales >= schedule.num_scales:
            return schedule
        return schedule.prefix(self.num_scales)


class TransformerTask:
    """A transformer with its loss; on a GPU matrix products are bfloat16, on a CPU float32 unless asked for.

    Attributes:
        bfloat16: Whether matrix products of the blocks are bfloat16; the residual stream, norms and head never are.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: TokenizerConfig,
        objective: TransformerObjective,
        *,
        recompute: bool = False,
        device: torch.device | None = None,
        bfloat16: bool = False,
    ) -> None:
        """Join a transformer with its loss.

        Args:
            transformer: Trained transformer.
            tokenizer: Shape of the tokenizer whose features are read.
            recompute: Whether blocks use activation checkpointing, which saves memory by computing them twice.
            device: Device of the computation; by default that of the weights. Offloaded weights live on the CPU.
            bfloat16: Whether matrix products are bfloat16 on a CPU too.
        """
        self.module = transformer
        self._tokenizer, self._objective, self._recompute = tokenizer, objective, recompute
        self._device = device or transformer.head.weight.device
        self.bfloat16 = bfloat16 or self._device.type == "cuda"

    loss_at_start = math.log(2)
    """Cross-entropy of a guessed bit, in nats."""

    def losses(self, micro_batch: LatentBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        """Compute the cross-entropy of each picture in nats per bit, a weighted mean over its tokens."""
        device, objective = self._device, self._objective
        taught, text = self._teach(micro_batch, generator), micro_batch.text.to(device)
        schedule, bits = taught.labels.schedule, taught.labels.bits_BLC
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            logits = self.module(text, taught.inputs_BMC, schedule, generator=generator, recompute=self._recompute)
        per_token = token_cross_entropy(logits, bits)
        metrics = _accuracies(logits, bits, schedule) if measured else {}
        if objective.z_loss:
            penalty = log_partition_penalty(logits)
            per_token = per_token + objective.z_loss * penalty
            if measured:
                metrics["log_partition_square"] = penalty.detach().mean()
        per_sample = per_token @ _weights(schedule, objective.weighting, device)
        return Losses(per_sample, torch.zeros((), device=device), metrics)

    def _teach(self, micro_batch: LatentBatch, generator: torch.Generator) -> TeacherForcing:
        """Return inputs and labels; some bits of the inputs are flipped where the rate is above 0."""
        device, rate = self._device, self._objective.self_correction
        latents = micro_batch.latents.to(device, non_blocking=True)
        kind, fold = self._tokenizer.quantizer, self._tokenizer.fold
        schedule = self._objective.trained(micro_batch.schedule)
        number = schedule.num_scales
        if latents.dtype == torch.bool:
            assert rate == 0, "self-correction needs the encoder's features, not only their bits"
            return teacher_forcing_of_bits(
                BitLabels(micro_batch.schedule, latents), kind=kind, fold=fold, num_scales=number
            )
        flips: list[Tensor] = []
        if rate > 0:
            flips = draw_flips(
                schedule,
                batch_size=len(micro_batch.keys),
                num_bits=self._tokenizer.token_bits,
                max_rate=rate,
                generator=_on_device(generator, device),
            )
        return teacher_forcing(
            latents,
            micro_batch.schedule,
            kind=kind,
            fold=fold,
            flips=flips,
            flips_only=self._objective.flips_only,
            num_scales=number,
        )

    def flops(self, micro_batch: LatentBatch) -> float:
        """Return the operations of the transformer; the frozen models are not counted."""
        return training_flops(
            self.module.config, self._objective.trained(micro_batch.schedule), micro_batch.text.lengths
        )

    def check(self, history: Sequence[MetricRow]) -> None:
        """Do nothing: constant bits are refused before the training (``check_labels``)."""


@lru_cache(maxsize=64)
def _weights(schedule: ScaleSchedule, weighting: Weighting, device: torch.device) -> Float[Tensor, " L"]:
    if weighting == "by_scale":
        return scale_weights(schedule, device)
    return torch.full((schedule.num_tokens,), 1.0 / schedule.num_tokens, device=device)


def _accuracies(logits: Tensor, bits: Tensor, schedule: ScaleSchedule) -> dict[str, Tensor]:
    """Return the accuracy of bits and of whole tokens, over all tokens and by scale; that of bits also by bit."""
    by_scale = accuracy_per_scale(logits.detach(), bits, schedule)
    areas = torch.tensor([h * w for h, w in schedule.grids], device=logits.device, dtype=torch.float32)
    share = areas / areas.sum()
    metrics = {"bit_accuracy": by_scale.bits_K @ share, "token_accuracy": by_scale.tokens_K @ share}
    for k in range(schedule.num_scales):
        metrics[f"bit_accuracy.scale_{k}"] = by_scale.bits_K[k]
        metrics[f"token_accuracy.scale_{k}"] = by_scale.tokens_K[k]
    for number, accuracy in enumerate(accuracy_per_bit(logits.detach(), bits)):
        metrics[f"bit_accuracy.bit_{number}"] = accuracy
    return metrics


def _on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return the generator, or one on ``device`` seeded by it, so that large masks are drawn where they are used."""
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device).manual_seed(seed)
