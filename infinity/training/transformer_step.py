"""What a transformer learns: the bits of every scale from the caption and coarser, partly wrong, scales (paper 3.4)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from infinity.bits import BitLabels
from infinity.scales import ScaleSchedule
from infinity.tokenizer.self_correction import TeacherForcing, draw_flips, teacher_forcing, teacher_forcing_of_bits
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.flops import training_flops
from infinity.training.latents import LatentBatch
from infinity.training.loop import Losses
from infinity.training.state import Row
from infinity.transformer.loss import accuracy_per_bit, accuracy_per_scale, scale_weights, token_cross_entropy
from infinity.transformer.model import Transformer

Weighting = Literal["by_scale", "by_token"]
"""Whether a token counts 1 / sqrt(tokens of its scale) (published), or all tokens count the same."""


class TransformerLearner:
    """A transformer with its loss; on a GPU matrix products are bfloat16, on a CPU float32."""

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: TokenizerConfig,
        *,
        self_correction: float,
        weighting: Weighting = "by_scale",
        recompute: bool = False,
    ) -> None:
        """Join a transformer with what it learns from.

        Args:
            transformer: What is trained.
            tokenizer: Of the encoder that made the features.
            self_correction: Highest rate at which bits of the history are wrong; 0 to 1, 0.3 is the paper's best.
            weighting: How tokens of different scales count.
            recompute: Save memory by computing every block twice.
        """
        self.module = transformer
        self._tokenizer, self._rate = tokenizer, self_correction
        self._weighting, self._recompute = weighting, recompute

    loss_at_start = math.log(2)
    """Of a bit that is guessed."""

    def losses(self, part: LatentBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        """Cross-entropy in nats a bit, averaged over the tokens of each picture."""
        device = self.module.head.weight.device
        taught, text = self._teach(part, generator), part.text.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = self.module(text, taught.inputs_BMC, part.schedule, generator=generator, recompute=self._recompute)
        bits = taught.labels.bits_BLC
        per_token = token_cross_entropy(logits, bits)
        per_sample = per_token @ _weights(part.schedule, self._weighting, device)
        metrics = _accuracies(logits, bits, part.schedule) if measured else {}
        return Losses(per_sample, torch.zeros((), device=device), metrics)

    def _teach(self, part: LatentBatch, generator: torch.Generator) -> TeacherForcing:
        """Inputs and labels, with wrong bits in the history where the rate is above 0."""
        device = self.module.head.weight.device
        latents = part.latents.to(device, non_blocking=True)
        kind, fold = self._tokenizer.quantizer, self._tokenizer.fold
        if latents.dtype == torch.bool:
            assert self._rate == 0, "self-correction needs the encoder's features, not only their bits"
            return teacher_forcing_of_bits(BitLabels(part.schedule, latents), kind=kind, fold=fold)
        flips: list[Tensor] = []
        if self._rate > 0:
            flips = draw_flips(
                part.schedule,
                batch_size=len(part.keys),
                num_bits=self._tokenizer.token_bits,
                max_rate=self._rate,
                generator=_on_device(generator, device),
            )
        return teacher_forcing(latents, part.schedule, kind=kind, fold=fold, flips=flips)

    def flops(self, part: LatentBatch) -> float:
        """Of the transformer; the frozen models are not counted."""
        return training_flops(self.module.config, part.schedule, part.text.lengths)

    def check(self, metrics: Row, step: int) -> None:
        """Nothing to stop for: constant bits are refused before the training."""


@lru_cache(maxsize=64)
def _weights(schedule: ScaleSchedule, weighting: Weighting, device: torch.device) -> Float[Tensor, " L"]:
    if weighting == "by_scale":
        return scale_weights(schedule, device)
    return torch.full((schedule.num_tokens,), 1.0 / schedule.num_tokens, device=device)


def _accuracies(logits: Tensor, bits: Tensor, schedule: ScaleSchedule) -> dict[str, Tensor]:
    """Accuracy of bits and of whole tokens, over all tokens and by scale; that of bits also by bit."""
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
    """The generator, or one on the device that it seeds: large random masks are drawn where they are used."""
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device).manual_seed(seed)
