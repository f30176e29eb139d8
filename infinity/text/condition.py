"""Text features of a batch of captions, packed without padding (repository infinity/models/infinity.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TextCondition:
    """Features of B captions, concatenated.

    Attributes:
        features_TD: Float features (T, Dt); T is the sum of the lengths, Dt the channels of the text encoder.
        lengths: Number of tokens of each caption, at least 1.

    Example:
        >>> captions = TextCondition.pack([torch.ones(2, 4), torch.zeros(1, 4)])
        >>> captions.lengths, captions.offsets
        ((2, 1), (0, 2, 3))
        >>> captions.mask().tolist()
        [[True, True], [True, False]]
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
        """Concatenate the features of single captions."""
        if not captions:
            raise ValueError("text features: expected at least one caption, got none")
        return cls(torch.cat(list(captions)), tuple(len(caption) for caption in captions))

    @property
    def offsets(self) -> tuple[int, ...]:
        """First token of each caption, and last T: B + 1 numbers."""
        return tuple(accumulate(self.lengths, initial=0))

    @property
    def batch_size(self) -> int:
        """Number B of captions in the batch."""
        return len(self.lengths)

    @property
    def channels(self) -> int:
        """Channels Dt per token."""
        return self.features_TD.shape[1]

    def unpack(self) -> tuple[Float[Tensor, "t Dt"], ...]:
        """Return the features of every caption separately."""
        return tuple(self.features_TD[a:b] for a, b in pairwise(self.offsets))

    def select(self, indices: Sequence[int]) -> TextCondition:
        """Return the captions at ``indices``, in that order; an index may occur twice."""
        captions = self.unpack()
        return TextCondition.pack([captions[i] for i in indices])

    def concat(self, other: TextCondition) -> TextCondition:
        """Return the captions of both, this one's first."""
        if self.channels != other.channels:
            raise ValueError(f"text features: cannot join {self.channels} and {other.channels} channels")
        return TextCondition(torch.cat([self.features_TD, other.features_TD]), self.lengths + other.lengths)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextCondition:
        """Return the condition on another device, or in another type."""
        return TextCondition(self.features_TD.to(device=device, dtype=dtype), self.lengths)

    def mask(self) -> Bool[Tensor, "B Tmax"]:
        """Return which places of the padded form hold text."""
        lengths = torch.tensor(self.lengths, device=self.features_TD.device)
        return torch.arange(max(self.lengths), device=lengths.device) < lengths[:, None]

    def padded(self) -> tuple[Float[Tensor, "B Tmax Dt"], Bool[Tensor, "B Tmax"]]:
        """Return the features padded with zeros to (B, longest caption), and the mask of the text."""
        mask = self.mask()
        if len(set(self.lengths)) == 1:
            return self.features_TD.view(self.batch_size, -1, self.channels), mask
        padded = self.features_TD.new_zeros(*mask.shape, self.channels)
        return padded.masked_scatter(mask.unsqueeze(-1), self.features_TD), mask
