"""Which values of a training's metrics are good and which are broken, in words (decision 33).

Bit accuracy: users of the published code report 0.65 to 0.70 for runs that were broken or early, and about 0.80 for
good ones (github.com/FoundationVision/Infinity, issues 65 and 81). Guessing gives 0.5, and bits that never change give
1. Entropy and gain follow the limits at which a training stops as collapsed (``infinity.training.tokenizer.collapse``).
Utilisation: PaLM reports 0.46 (arXiv:2204.02311). Waiting for data is lost time: a share of 0.05 is one step in twenty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "fair", "early", "broken"]


@dataclass(frozen=True, slots=True)
class Band:
    """A range of values with a verdict.

    Attributes:
        start: Smallest value; the band ends where the next one begins.
        text: Meaning for the reader.
    """

    start: float
    verdict: Verdict
    text: str


_LEAST = float("-inf")

BANDS: dict[str, tuple[Band, ...]] = {
    "bit_accuracy": (
        Band(_LEAST, "broken", "no better than guessing"),
        Band(0.55, "early", "early in a training; at its end something is wrong"),
        Band(0.70, "fair", "learning; good runs end near 0.80"),
        Band(0.78, "good", "as in good runs"),
        Band(0.995, "broken", "too good: bits that hardly change, or pictures learned by heart"),
    ),
    "bit_entropy": (
        Band(_LEAST, "broken", "most bits are constant"),
        Band(0.25, "early", "many bits are used little"),
        Band(0.60, "fair", "bits are used unevenly"),
        Band(0.80, "good", "bits are used evenly"),
    ),
    "dead_bits": (
        Band(_LEAST, "good", "hardly any bit is constant"),
        Band(0.10, "fair", "some bits of some scales are constant, as those of the first scales of few pictures"),
        Band(0.40, "early", "many bits are constant"),
        Band(0.75, "broken", "the tokenizer has collapsed"),
    ),
    "gain_db": (
        Band(_LEAST, "broken", "no better than one constant picture"),
        Band(0.5, "early", "little better than a constant picture"),
        Band(5.0, "fair", "shapes and colours come back"),
        Band(12.0, "good", "details come back"),
    ),
    "data_wait_share": (
        Band(_LEAST, "good", "data is there in time"),
        Band(0.05, "fair", "a step in twenty is lost by waiting for data"),
        Band(0.20, "broken", "reading is too slow: more reading threads, smaller pictures, or a store of latents"),
    ),
    "mfu": (
        Band(_LEAST, "broken", "below a tenth of what the device can do: small batches, or waiting"),
        Band(0.10, "fair", "usual for small models"),
        Band(0.40, "good", "as in well-tuned trainings"),
    ),
    "skipped": (
        Band(_LEAST, "good", "no batch was left out"),
        Band(0.5, "fair", "some batches were wrong and left out; the notes say which"),
    ),
}
"""Bands of every metric, in ascending order."""


def judge(metric: str, value: float) -> Band | None:
    """Return the band of a value; None for metrics without bands.

    Example:
        >>> judge("bit_accuracy", 0.80).verdict
        'good'
    """
    found = None
    for band in BANDS.get(metric, ()):
        if value >= band.start:
            found = band
    return found
