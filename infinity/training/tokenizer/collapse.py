"""Detect a collapsed tokenizer, whose bits are constant: a transformer would report a perfect, worthless accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from infinity.config import Config
from infinity.ranges import Count
from infinity.tokenizer.quantizer import binary_entropy
from infinity.training.learner import TrainingError
from infinity.training.state import MetricRow


class CollapseError(TrainingError):
    """The bits of a tokenizer have collapsed; the message gives the figures and advice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CollapseConfig(Config):
    """When a tokenizer counts as collapsed.

    Attributes:
        from_step: First step that is checked; only logged steps are.
        num_rows: Number of logged steps, none before ``from_step``, whose mean is checked. A single small batch may be
            one that a constant picture fits well (1 of 200 batches of 8 pictures in a good training).
        dead_entropy: Entropy in bits over the batch, below which a bit of a scale is dead; a fair coin has 1.
        max_dead_share: Fraction of dead bits, over all scales, above which the tokenizer has collapsed.
        min_gain_db: Smallest gain in decibels of reconstructions over the best constant picture.
    """

    later: ClassVar[frozenset[str]] = frozenset({"num_rows"})

    from_step: int = 300
    num_rows: Count = 5
    dead_entropy: float = 0.03
    max_dead_share: float = 0.75
    min_gain_db: float = 0.5


def dead_share(usage_SC: Float[Tensor, "S C"], dead_entropy: float) -> Float[Tensor, ""]:
    """Return the fraction of bits, over all scales, that hardly ever change.

    Args:
        usage_SC: Frequency of each bit at each scale, 0 to 1.
        dead_entropy: Entropy in bits, 0 to 1, below which a bit is dead.
    """
    entropy = binary_entropy(usage_SC) / math.log(2.0)
    return (entropy < dead_entropy).float().mean()


def constant_picture_error(images_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """Return the mean squared error of the best constant picture on unseen pictures; zero for a single picture.

    The mean of B pictures fits these B better than unseen ones, by the factor (B - 1) / B. The result is corrected for
    that, since small batches would otherwise flatter the constant picture.
    """
    images = images_B3HW.float()
    squares = (images - images.mean(dim=0)).square().sum(dim=0)
    return squares.mean() / max(len(images) - 1, 1)


def check_reconstruction(history: Sequence[MetricRow], config: CollapseConfig) -> None:
    """Check the last logged metrics of a tokenizer.

    Args:
        history: Logged rows, the newest last.

    Raises:
        CollapseError: The metrics show a collapse.
    """
    rows = [row for row in history[-config.num_rows :] if row["step"] >= config.from_step]
    if len(rows) < config.num_rows:
        return
    where = f"step {rows[-1]['step']:.0f}: the tokenizer has collapsed"
    mean = f"mean of {len(rows)} logged steps"
    dead = fmean(row["dead_bits"] for row in rows)
    if dead > config.max_dead_share:
        raise CollapseError(
            f"{where}: {dead:.0%} of its bits hardly ever change ({mean}; at most {config.max_dead_share:.0%} may), so "
            f"they carry nothing. {ADVICE}"
        )
    gain_db = fmean(row.get("gain_db", math.inf) for row in rows)  # absent where all pictures are alike
    if gain_db < config.min_gain_db:
        psnr = fmean(row["psnr_db"] for row in rows)
        raise CollapseError(
            f"{where}: its reconstructions ({psnr:.1f} dB) are only {gain_db:.2f} dB better than one constant picture "
            f"({mean}; {config.min_gain_db} dB are needed). {ADVICE}"
        )


def check_labels(usage_SC: Float[Tensor, "S C"], config: CollapseConfig, where: str) -> None:
    """Check the bits that a transformer is to learn, before it starts.

    Raises:
        CollapseError: The bits hardly ever change.
    """
    dead = float(dead_share(usage_SC, config.dead_entropy))
    if dead > config.max_dead_share:
        raise CollapseError(
            f"{where}: this tokenizer has collapsed: {dead:.0%} of its bits hardly ever change on this data set (at "
            f"most {config.max_dead_share:.0%} may). A transformer would report a perfect, worthless accuracy. "
            f"{ADVICE}"
        )


ADVICE = (
    "Train the tokenizer with lower weights of commitment and entropy, a lower learning rate, or fewer bits at a "
    "smaller stride"
)


def psnr_db(squared_error: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in decibels of pixels in [-1, 1]."""
    return 10.0 * torch.log10(4.0 / squared_error.clamp_min(1e-12))  # the peak is 2, its square 4
