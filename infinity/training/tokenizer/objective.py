"""The loss of a tokenizer: reconstruction, terms of the bits, perceptual and adversarial (paper 3.2; BitVAE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinity.config import Config
from infinity.perception.lpips import Lpips, LpipsConfig
from infinity.ranges import NotNegative, Share
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.quantizer import binary_entropy
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerOutput
from infinity.training.adversary import AdversarialLoss, Adversary
from infinity.training.learner import Losses
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.state import MetricRow
from infinity.training.tokenizer.collapse import (
    CollapseConfig,
    check_reconstruction,
    constant_picture_error,
    dead_share,
    psnr_db,
)
from infinity.training.tokenizer.discriminator import PatchDiscriminator

CONSTANT_ERROR = 1e-4
"""Mean squared error of the best constant picture, below which the pictures are alike and the gain says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerLosses(Config):
    """Weights of the terms. The terms of the bits are means over the bits, so that they fit any number of bits.

    Attributes:
        l1: Weight of the mean absolute difference of pixels in [-1, 1].
        l2: Weight of the mean squared difference of pixels.
        commitment: Weight of the distance of the residuals to their codes.
        certainty: Weight of the entropy of single positions, which is to be small.
        balance: Weight of the entropy of the batch's mean, which is to be large.
        keep_probability: Probability that a scale, except the last, takes part in a pass; 0.5 in the published
            recipe, so that one tokenizer serves many schedules.
        truncated: Weight of l1 and l2 of a second picture, decoded from the first scales alone, against the whole
            original. It moves content into early scales, which makes them easier to predict and the full
            reconstruction a little worse ("reg" tokenizers). 0 decodes none.
        truncated_share: Probability that a pass decodes the second picture, which costs one more decoding.
        all_codes: Whether the entropies compare every position with all 2**C codes, as LFQ does, instead of bit by bit:
            the memory grows exponentially (paper Table 3).
    """

    later: ClassVar[frozenset[str]] = frozenset({"truncated", "truncated_share", "all_codes"})

    l1: float = 1.0
    l2: float = 0.0
    commitment: float = 0.25
    certainty: float = 0.05
    balance: float = 0.05
    keep_probability: Share = 1.0
    truncated: NotNegative = 0.0
    truncated_share: Share = 1.0
    all_codes: bool = False

    def __post_init__(self) -> None:
        if self.l1 < 0 or self.l2 < 0 or self.l1 + self.l2 <= 0:
            raise ValueError(f"TokenizerLosses: expected l1 or l2 above 0, neither below, got {self.l1} and {self.l2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PerceptualConfig(Config):
    """A perceptual loss (LPIPS).

    Attributes:
        weight: Weight of the mean LPIPS distance.
        network: Backbone and the places of its two files of weights.
    """

    weight: float = 1.0
    network: LpipsConfig = LpipsConfig()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"PerceptualConfig.weight: expected more than 0, got {self.weight}; leave it out for none")


class TokenizerTask:
    """A tokenizer with its loss. Everything is float32, also on a GPU, as published.

    Attributes:
        perceptual: Weight and network of the perceptual loss, or None.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        losses: TokenizerLosses,
        collapse: CollapseConfig,
        *,
        perceptual: tuple[float, Lpips] | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        """Join a tokenizer with its losses.

        Args:
            tokenizer: Trained tokenizer.
            losses: Weights of the loss terms.
            perceptual: Weight and frozen network of the perceptual loss.
            adversary: The discriminator as the state holds it; the loop decides the steps in which it takes part.
        """
        self.module = tokenizer
        self.perceptual = perceptual
        self._weights, self._collapse, self._adversary = losses, collapse, adversary

    loss_at_start = 1.0
    """Pixels lie in [-1, 1], and the terms of the bits are fractions."""

    def losses(self, micro_batch: PictureBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        """Compute the losses of each picture's reconstruction, of the bits, and of the discriminator."""
        weights = self._weights
        images = to_pixels(micro_batch.images_BHWC, next(self.module.parameters()).device)
        truncate = weights.truncated > 0 and _happens(weights.truncated_share, generator)
        output: TokenizerOutput = self.module(
            images,
            micro_batch.schedule,
            keep_probability=weights.keep_probability,
            truncate=truncate,
            all_codes=weights.all_codes,
            generator=generator,
        )
        rebuilt = output.reconstruction_B3HW
        seen = {}
        per_sample = self._distance(rebuilt, images)
        if output.truncated_B3HW is not None:
            per_sample = per_sample + weights.truncated * self._distance(output.truncated_B3HW, images)
        if self.perceptual is not None:
            share, network = self.perceptual
            distance = network(rebuilt, images)
            per_sample = per_sample + share * distance
            seen["lpips"] = distance.mean()
        shared = (
            weights.commitment * output.commitment
            + weights.certainty * output.entropy_per_sample
            - weights.balance * output.entropy_batch
        )
        term, adversarial = self._adversarial_terms(images, rebuilt, seen)
        metrics = (
            self._metrics(micro_batch, images, output) | {k: v.detach() for k, v in seen.items()} if measured else {}
        )
        return Losses(per_sample, shared, metrics, term, adversarial, micro_batch.batch_size)

    def _distance(self, rebuilt: Tensor, images: Tensor) -> Tensor:
        """Return the weighted pixel difference of each picture."""
        difference, weights = rebuilt - images, self._weights
        per_sample = torch.zeros((), device=images.device)
        if weights.l1:
            per_sample = per_sample + weights.l1 * difference.abs().mean(dim=(1, 2, 3))
        if weights.l2:
            per_sample = per_sample + weights.l2 * difference.square().mean(dim=(1, 2, 3))
        return per_sample

    def _adversarial_terms(
        self, images: Tensor, rebuilt: Tensor, seen: dict[str, Tensor]
    ) -> tuple[Tensor | None, AdversarialLoss | None]:
        """Return the tokenizer's weighted adversarial term, and the discriminator's loss."""
        if self._adversary is None or not self._adversary.awake:
            return None, None
        discriminator = self._adversary.module
        assert isinstance(discriminator, PatchDiscriminator)
        term = discriminator.generator_loss(rebuilt)
        adversarial = discriminator.discriminator_loss(images, rebuilt)
        real, fake = adversarial.seen.unbind()
        seen |= {"adversarial": term, "discriminator": adversarial.loss, "answer_real": real, "answer_fake": fake}
        return discriminator.config.weight * term, adversarial

    @torch.no_grad()
    def _metrics(self, micro_batch: PictureBatch, images: Tensor, output: TokenizerOutput) -> dict[str, Tensor]:
        rebuilt = output.reconstruction_B3HW.clamp(-1.0, 1.0)
        error = (rebuilt - images).square().mean()
        metrics = {
            "l1": (rebuilt - images).abs().mean(),
            "psnr_db": psnr_db(error),
            "commitment": output.commitment.detach(),
            "entropy_per_sample": output.entropy_per_sample.detach(),
            "entropy_batch": output.entropy_batch.detach(),
            "bit_entropy": torch.tensor(output.bit_entropy()),
            "dead_bits": dead_share(output.usage_SC, self._collapse.dead_entropy),
        }
        if output.truncated_B3HW is not None:
            metrics["truncated_psnr_db"] = psnr_db((output.truncated_B3HW.clamp(-1.0, 1.0) - images).square().mean())
        metrics |= _entropies(output.usage_SC, micro_batch.schedule.num_scales)
        constant = constant_picture_error(images)
        if constant > CONSTANT_ERROR:  # false also for a single picture
            metrics["gain_db"] = psnr_db(error) - psnr_db(constant)
        return metrics

    def flops(self, micro_batch: PictureBatch) -> float:
        """Return 0: a tokenizer's operations are not counted."""
        return 0.0

    def check(self, history: Sequence[MetricRow]) -> None:
        """Raise if the tokenizer has collapsed."""
        check_reconstruction(history, self._collapse)


def _happens(share: float, generator: torch.Generator) -> bool:
    """Draw whether an event of this probability happens; probability 1 draws nothing."""
    return share >= 1.0 or float(torch.rand((), generator=generator)) < share


def _entropies(usage_SC: Tensor, num_scales: int) -> dict[str, Tensor]:
    """Return the entropy of each bit, in bits; by scale only in passes that kept all scales."""
    entropy_SC = binary_entropy(usage_SC) / math.log(2.0)
    metrics = {f"bit_entropy.bit_{number}": entropy for number, entropy in enumerate(entropy_SC.mean(dim=0))}
    if len(entropy_SC) == num_scales:
        metrics |= {f"bit_entropy.scale_{k}": entropy for k, entropy in enumerate(entropy_SC.mean(dim=1))}
    return metrics
