"""Small rules that say why a picture is left out; each reason is a slug that is counted.

A caption is cleaned first: white space of all kinds becomes single blanks. A caption that holds a NUL byte, another
control character or half a surrogate pair is not repaired but dropped: it was damaged before it came here, and nobody
knows how much.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from infinity.config import Config
from infinity.data.decoding import MAX_PIXELS
from infinity.data.samples import Sample

Rule = Callable[[Sample], str | None]
"""A reason to drop a sample, or None to let it pass."""

DUPLICATE = "duplicate"
"""The reason of the one rule that needs to know all samples; the job applies it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig(Config):
    """Which pictures are left out.

    Attributes:
        min_side_px: Shortest side that is kept, in pixels.
        max_elongation: Largest longer side divided by shorter side that is kept; the longest trained ratio is 3.
        min_caption_chars: Shortest caption that is kept, after cleaning.
        duplicates: What counts as an exact duplicate, of which the first in the source is kept: the same pixels
            ("picture"), the same pixels with the same caption ("picture_and_caption", for sources with several captions
            a picture), or nothing ("keep").
        max_pixels: Pictures with more pixels are unreadable; the header decides.
    """

    min_side_px: int = 24
    max_elongation: float = 3.5
    min_caption_chars: int = 2
    duplicates: Literal["picture", "picture_and_caption", "keep"] = "picture"
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        if self.min_side_px < 1 or self.min_caption_chars < 1:
            raise ValueError(
                f"FilterConfig: expected min_side_px and min_caption_chars of at least 1, got {self.min_side_px} and "
                f"{self.min_caption_chars}"
            )
        if self.max_elongation < 1:
            raise ValueError(
                f"FilterConfig.max_elongation: expected at least 1, which keeps squares, got {self.max_elongation}"
            )
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise ValueError(f"FilterConfig.max_pixels: expected 1 to {MAX_PIXELS:,}, got {self.max_pixels:,}")

    def rules(self) -> tuple[Rule, ...]:
        """In the order in which they are asked; the first reason counts."""
        return (
            caption_present(),
            caption_intact(),
            caption_length(self.min_caption_chars),
            min_side(self.min_side_px),
            max_elongation(self.max_elongation),
        )


def clean_caption(text: str | None) -> str:
    """One line, single blanks, composed characters (NFC), nothing around it; empty for None."""
    return unicodedata.normalize("NFC", " ".join((text or "").split()))


def first_reason(sample: Sample, rules: Sequence[Rule]) -> str | None:
    """The reason of the first rule that objects, or None."""
    return next((reason for rule in rules if (reason := rule(sample)) is not None), None)


def caption_present() -> Rule:
    """Reject pictures without a caption."""
    return lambda sample: "caption_missing" if not sample.caption else None


def caption_intact() -> Rule:
    """Reject captions with NUL bytes, other control characters or lone surrogates."""

    def reject(sample: Sample) -> str | None:
        damaged = any(unicodedata.category(char) in ("Cc", "Cs") for char in sample.caption)
        return "caption_control_characters" if damaged else None

    return reject


def caption_length(min_chars: int) -> Rule:
    """Reject captions of fewer characters."""
    return lambda sample: "caption_too_short" if len(sample.caption) < min_chars else None


def min_side(pixels: int) -> Rule:
    """Reject pictures whose shorter side is under ``pixels``."""
    return lambda sample: "small_side" if min(sample.width_px, sample.height_px) < pixels else None


def max_elongation(limit: float) -> Rule:
    """Reject pictures whose longer side is over ``limit`` times the shorter, of which a crop would lose too much."""

    def reject(sample: Sample) -> str | None:
        short, long = sorted((sample.width_px, sample.height_px))
        return "aspect_ratio" if long > limit * short else None

    return reject
