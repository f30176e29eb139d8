"""What pictures and captions say about known faults: measured with the run's own tokenizer and transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from infinity import storage
from infinity.diagnosis.findings import LikelyCause
from infinity.scales import ScaleSchedule
from infinity.tokenizer import Tokenizer

SWAP_GAIN_DB = 1.0
"""Gain of swapped channels from which the order is wrong."""
LOST_DB = 3.0
"""Loss against the tokenizer's own training from which it was made for other pictures."""
CAPTION_GAP = 0.002
"""Relative difference in loss between right and shuffled captions below which captions carry nothing."""


@torch.no_grad()
def reconstruction_db(tokenizer: Tokenizer, images_B3HW: Float[Tensor, "B 3 H W"], schedule: ScaleSchedule) -> float:
    """Return the PSNR in dB of pictures in [-1, 1] after encoding and decoding."""
    error = (tokenizer.reconstruct(images_B3HW, schedule).clamp(-1, 1) - images_B3HW).square().mean()
    return -10 * math.log10(max(float(error) / 4, 1e-12))


def tokenizer_findings(straight_db: float, swapped_db: float, trained_db: float | None) -> list[LikelyCause]:
    """Return the findings about a tokenizer on the run's pictures.

    Args:
        straight_db: PSNR of the pictures as the training reads them.
        swapped_db: PSNR with red and blue swapped.
        trained_db: PSNR at the end of the tokenizer's own training; None where it is not known.
    """
    if swapped_db - straight_db > SWAP_GAIN_DB:
        evidence = f"with red and blue swapped the tokenizer reaches {swapped_db:.1f} dB, as they are {straight_db:.1f}"
        return [LikelyCause(cause="wrong channel order", certainty=0.95, evidence=evidence)]
    if trained_db is not None and trained_db - straight_db > LOST_DB:
        evidence = f"the tokenizer reaches {straight_db:.1f} dB on these pictures, {trained_db:.1f} on its own"
        return [LikelyCause(cause="another tokenizer", certainty=0.85, evidence=evidence)]
    return []


def data_findings(manifest: str, trained_on: str) -> list[LikelyCause]:
    """Return the findings about the origin of a tokenizer; a recipe trains it on the data that it is used for.

    Args:
        manifest: URI of the run's manifest, in a folder that is named by the data set's digest.
        trained_on: URI of the manifest of the tokenizer's own training; empty where it is not known.
    """
    mine, other = (storage.name(storage.parent(uri)) for uri in (manifest, trained_on or manifest))
    if mine == other:
        return []
    evidence = f"the tokenizer was trained on {other}, this run reads {mine}"
    return [LikelyCause(cause="another tokenizer", certainty=0.6, evidence=evidence)]


def caption_findings(right: Sequence[float], shuffled: Sequence[float]) -> list[LikelyCause]:
    """Return the findings about captions.

    Args:
        right: Loss of every picture with its own caption.
        shuffled: Loss of every picture with that of another one.
    """
    own, other = math.fsum(right) / len(right), math.fsum(shuffled) / len(shuffled)
    if (other - own) / own < CAPTION_GAP:
        evidence = f"the loss is {own:.4f} with right captions and {other:.4f} with those of other pictures"
        return [LikelyCause(cause="captions shuffled", certainty=0.75, evidence=evidence)]
    return []
