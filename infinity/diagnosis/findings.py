"""The known faults of trainings, and findings that speak for one of them."""

from __future__ import annotations

from dataclasses import dataclass

from infinity.config import Config
from infinity.ranges import Share

REMEDIES = {
    "learning rate too high": "divide it; nothing multiplies the rate of a spec, unlike the published script's",
    "learning rate too low": "raise it to that of the recipe",
    "another tokenizer": "name the tokenizer that was trained on this data, or train one",
    "folding mismatch": "set fold of tokenizer and model alike: 2x2 positions in one token, or not",
    "wrong channel order": "give pictures as RGB; OpenCV reads and writes BGR",
    "guidance trained away": "set model.condition_drop to 0.1, so that an unconditional branch is learned",
    "self-correction off": "set self_correction to the recipe's rate",
    "captions shuffled": "check that each caption belongs to its picture in the source",
    "wrong resolution table": "set resolution to the sides that the tokenizer was trained for",
    "text features of another encoder": "use the text encoder of the recipe or of the start model",
    "bf16 master weights": "keep weights and moments in float32; matrix products alone may be bfloat16",
    "data order not shuffled": "set order.window_pictures to thousands, or shuffle the source",
    "frozen weights": "let all weights take gradients, or name the adapters that are trained",
}
"""What to do about each known fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LikelyCause(Config):
    """Evidence for a fault.

    Attributes:
        certainty: How surely the evidence means this fault, 0 to 1.
        evidence: What was found and what a healthy run has, in one sentence.
    """

    cause: str
    certainty: Share
    evidence: str

    def __post_init__(self) -> None:
        if self.cause not in REMEDIES:
            raise ValueError(f"LikelyCause.cause: expected one of {', '.join(REMEDIES)}, got {self.cause!r}")

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.cause]
