"""Unsafe content, found by a published image classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infinity.perception.image_classifier import ImageClassifierConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NsfwConfig(ImageClassifierConfig):
    """Which classifier finds unsafe content; by default a vision transformer with the labels normal and nsfw.

    Attributes:
        kind: Tells it from other scorers in JSON.
    """

    kind: Literal["nsfw"] = "nsfw"
    model: str = "Falconsai/nsfw_image_detection"
    labels: tuple[str, ...] = ("nsfw",)

    @property
    def score(self) -> str:
        """Name of the score."""
        return "nsfw"
