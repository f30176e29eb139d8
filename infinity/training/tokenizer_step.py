"""What a tokenizer learns: to give pictures back through its bits (paper section 3.2; tokenizer recipe of BitVAE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinity.config import Config
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerOutput
from infinity.training.collapse import (
    CollapseConfig,
    check_reconstruction,
    constant_picture_error,
    dead_share,
    psnr_db,
)
from infinity.training.loop import Losses
from infinity.training.pictures import PictureBatch
from infinity.training.state import Row

CONSTANT_ERROR = 1e-4
"""Below this mean squared error of the best constant picture the pictures are alike, and beating it says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerLosses(Config):
    """Weights of the terms. Those of the bits are means over the bits, so that they fit any number of bits.

    Attributes:
        l1: Of the mean absolute difference of pixels in [-1, 1].
        l2: Of their mean squared difference.
        commitment: Of the distance of the residuals to their codes.
        certainty: Of the entropy of single positions, which is to be small.
        balance: Of the entropy of the batch's mean, which is to be large.
        keep_probability: Share of the passes in which a scale, except the last, takes part; 0.5 in the published
            recipe, so that one tokenizer serves many schedules.
    """

    l1: float = 1.0
    l2: float = 0.0
    commitment: float = 0.25
    certainty: float = 0.05
    balance: float = 0.05
    keep_probability: float = 1.0

    def __post_init__(self) -> None:
        if self.l1 < 0 or self.l2 < 0 or self.l1 + self.l2 <= 0:
            raise ValueError(f"TokenizerLosses: expected l1 or l2 above 0, neither below, got {self.l1} and {self.l2}")
        if not 0.0 <= self.keep_probability <= 1.0:
            raise ValueError(f"TokenizerLosses.keep_probability: expected a share, got {self.keep_probability}")


class TokenizerLearner:
    """A tokenizer with its loss; every scale, bit and pixel is float32, also on a GPU, as published."""

    def __init__(self, tokenizer: Tokenizer, losses: TokenizerLosses, collapse: CollapseConfig) -> None:
        self.module = tokenizer
        self._weights, self._collapse = losses, collapse

    loss_at_start = 1.0
    """Pixels lie in [-1, 1], and the terms of the bits are fractions."""

    def losses(self, part: PictureBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        """Reconstruction of each picture, and the terms of the bits of all of them."""
        weights = self._weights
        images = to_pixels(part.images_BHWC, next(self.module.parameters()).device)
        output: TokenizerOutput = self.module(
            images, part.schedule, keep_probability=weights.keep_probability, generator=generator
        )
        difference = output.reconstruction_B3HW - images
        per_sample = torch.zeros((), device=images.device)
        if weights.l1:
            per_sample = per_sample + weights.l1 * difference.abs().mean(dim=(1, 2, 3))
        if weights.l2:
            per_sample = per_sample + weights.l2 * difference.square().mean(dim=(1, 2, 3))
        shared = (
            weights.commitment * output.commitment
            + weights.certainty * output.entropy_per_sample
            - weights.balance * output.entropy_batch
        )
        return Losses(per_sample, shared, self._metrics(images, output) if measured else {})

    @torch.no_grad()
    def _metrics(self, images: Tensor, output: TokenizerOutput) -> dict[str, Tensor]:
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
        constant = constant_picture_error(images)
        if constant > CONSTANT_ERROR:  # false also for a single picture
            metrics["gain_db"] = psnr_db(error) - psnr_db(constant)
        return metrics

    def check(self, metrics: Row, step: int) -> None:
        """Stop a tokenizer that has collapsed."""
        check_reconstruction(metrics, step, self._collapse)
