"""Bits that carry nothing: a tokenizer with constant bits would give a transformer with perfect, worthless accuracy."""

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
from infinity.tokenizer.quantizer import binary_entropy
from infinity.training.learner import TrainingError
from infinity.training.state import MetricRow


class CollapseError(TrainingError):
    """The bits of a tokenizer have collapsed; the message gives the figures and what may help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CollapseConfig(Config):
    """When a tokenizer counts as collapsed.

    Attributes:
        from_step: Steps that a young tokenizer is given; looked at from then on, at logged steps.
        num_rows: Logged steps whose mean is judged, none before ``from_step``: a single batch of a few pictures may
            be one that a constant picture fits well (of 200 batches of 8 in a good training one was).
        dead_entropy: A bit of a scale is dead when its entropy over the batch is below this; 1 is a fair coin.
        max_dead_share: Share of dead bits, over all scales, above which the tokenizer has collapsed.
        min_gain_db: Decibels by which reconstructions must beat the best constant picture.
    """

    later: ClassVar[frozenset[str]] = frozenset({"num_rows"})

    from_step: int = 300
    num_rows: int = 5
    dead_entropy: float = 0.03
    max_dead_share: float = 0.75
    min_gain_db: float = 0.5

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError(f"CollapseConfig.num_rows: expected at least 1 logged step, got {self.num_rows}")


def dead_share(usage_SC: Float[Tensor, "S C"], dead_entropy: float) -> Float[Tensor, ""]:
    """Share of the bits, of all scales, that hardly ever change.

    Args:
        usage_SC: How often each bit is set at each scale, 0 to 1.
        dead_entropy: Entropy in bits, 0 to 1, below which a bit is dead.
    """
    entropy = binary_entropy(usage_SC) / math.log(2.0)
    return (entropy < dead_entropy).float().mean()


def constant_picture_error(images_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """Mean squared error of the best constant picture on other pictures of the same kind; zero for a single picture.

    The mean of B pictures fits these B better than others, by (B - 1) / B; that is corrected, since small batches would
    otherwise make it look good.
    """
    images = images_B3HW.float()
    squares = (images - images.mean(dim=0)).square().sum(dim=0)
    return squares.mean() / max(len(images) - 1, 1)


def check_reconstruction(history: Sequence[MetricRow], config: CollapseConfig) -> None:
    """Look at the last logged figures of a tokenizer.

    Args:
        history: What was logged, the newest step last.
        config: When a tokenizer counts as collapsed.

    Raises:
        CollapseError: They show a collapse.
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
    gain_db = fmean(row.get("gain_db", math.inf) for row in rows)  # none for pictures that are all alike
    if gain_db < config.min_gain_db:
        psnr = fmean(row["psnr_db"] for row in rows)
        raise CollapseError(
            f"{where}: its reconstructions ({psnr:.1f} dB) are only {gain_db:.2f} dB better than one constant picture "
            f"({mean}; {config.min_gain_db} dB are needed). {ADVICE}"
        )


def check_labels(usage_SC: Float[Tensor, "S C"], config: CollapseConfig, where: str) -> None:
    """Look at the bits that a transformer is to learn, before it starts.

    Raises:
        CollapseError: They hardly ever change.
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
    """Peak signal-to-noise ratio of pixels in [-1, 1]."""
    return 10.0 * torch.log10(4.0 / squared_error.clamp_min(1e-12))
