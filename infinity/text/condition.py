"""Text features of a batch, packed without padding (repository infinity/models/infinity.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TextCondition:
    """Features of B captions, one after the other.

    Attributes:
        features_TD: (T, Dt) float; T is the sum of the lengths, Dt the channels of the text encoder.
        lengths: Tokens of each caption, all at least 1.
    """

    features_TD: Float[Tensor, "T Dt"]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.features_TD.ndim != 2:
            raise ValueError(
                f"text features: expected (tokens, channels), got the shape {tuple(self.features_TD.shape)}"
            )
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"text features: every caption needs at least one token, got lengths {self.lengths}")
        if sum(self.lengths) != self.features_TD.shape[0]:
            raise ValueError(
                f"text features: lengths sum to {sum(self.lengths)}, but there are {self.features_TD.shape[0]} tokens"
            )

    @classmethod
    def pack(cls, captions: Sequence[Float[Tensor, "t Dt"]]) -> TextCondition:
        """One condition of the features of single captions."""
        if not captions:
            raise ValueError("text features: expected at least one caption, got none")
        return cls(torch.cat(list(captions)), tuple(len(caption) for caption in captions))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each caption starts, and T: B + 1 numbers."""
        return tuple(accumulate(self.lengths, initial=0))

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def channels(self) -> int:
        """Dt."""
        return self.features_TD.shape[1]

    def unpack(self) -> tuple[Float[Tensor, "t Dt"], ...]:
        """The features of every caption alone."""
        return tuple(self.features_TD[a:b] for a, b in pairwise(self.offsets))

    def select(self, indices: Sequence[int]) -> TextCondition:
        """The captions at ``indices``, in that order; an index may come twice."""
        captions = self.unpack()
        return TextCondition.pack([captions[i] for i in indices])

    def concat(self, other: TextCondition) -> TextCondition:
        """The captions of both, this one's first."""
        if self.channels != other.channels:
            raise ValueError(f"text features: cannot join {self.channels} and {other.channels} channels")
        return TextCondition(torch.cat([self.features_TD, other.features_TD]), self.lengths + other.lengths)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextCondition:
        """The same condition on another device, or in another type."""
        return TextCondition(self.features_TD.to(device=device, dtype=dtype), self.lengths)

    def mask(self) -> Bool[Tensor, "B Tmax"]:
        """Which places of the padded form hold text."""
        lengths = torch.tensor(self.lengths, device=self.features_TD.device)
        return torch.arange(max(self.lengths), device=lengths.device) < lengths[:, None]

    def padded(self) -> tuple[Float[Tensor, "B Tmax Dt"], Bool[Tensor, "B Tmax"]]:
        """Features spread over (B, longest caption), zeros elsewhere, and where text is."""
        mask = self.mask()
        if len(set(self.lengths)) == 1:
            return self.features_TD.view(self.batch_size, -1, self.channels), mask
        padded = self.features_TD.new_zeros(*mask.shape, self.channels)
        return padded.masked_scatter(mask.unsqueeze(-1), self.features_TD), mask
