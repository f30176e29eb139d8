"""Watermarks, found by a published image classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infinity.perception.image_classifier import ImageClassifierConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class WatermarkConfig(ImageClassifierConfig):
    """Which classifier finds watermarks; by default a SigLIP 2 that was trained on scenery with and without them.

    Attributes:
        kind: Tells it from other scorers in JSON.
    """

    kind: Literal["watermark"] = "watermark"
    model: str = "prithivMLmods/Watermark-Detection-SigLIP2"
    labels: tuple[str, ...] = ("Watermark",)

    @property
    def score(self) -> str:
        """Name of the score."""
        return "watermark"
