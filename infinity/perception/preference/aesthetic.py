"""LAION's improved aesthetic predictor, version 2, which imitates people's ratings, about 1 to 10.

It is a stack of linear layers without nonlinearity over CLIP's picture vector (ViT-L/14 by OpenAI), scaled to length 1.
The published file is ``sac+logos+ava1-l14-linearMSE.pth``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from infinity.checkpoint import load_weights
from infinity.config import Config, digest_of
from infinity.perception.clip import Clip, ClipConfig, Picture, normalised
from infinity.perception.loading import folder_digest, model_folder, read_tensors
from infinity.storage.pinned import PinnedFile

STANDARD = PinnedFile(
    uri="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth",
    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
)
"""The published weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AestheticConfig(Config):
    """Configuration of the predictor and its CLIP.

    Attributes:
        kind: Tag that tells this scorer from others in JSON.
        weights: File of the predictor.
        clip: CLIP that the predictor was trained on.
    """

    kind: Literal["aesthetic"] = "aesthetic"
    weights: PinnedFile = STANDARD
    clip: ClipConfig = field(default_factory=ClipConfig)

    @property
    def score(self) -> str:
        """Name of the score in tables."""
        return "aesthetic"

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides picture and caption."""
        folder = model_folder("CLIP", self.clip.model, self.clip.revision)
        return digest_of([folder_digest(folder), self.clip.dtype, digest_of(self.weights.read().hex())])


class AestheticHead(nn.Module):
    """The layers of the published file, under its names; dropout has no effect in evaluation mode."""

    def __init__(self, num_channels: int = 768) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_channels, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
        """Return the scores of vectors of length 1."""
        scores: Tensor = self.layers(vectors)[:, 0]
        return scores


class Aesthetic:
    """The predictor in evaluation mode.

    Args:
        clip: CLIP of the predictor, loaded.

    Raises:
        ValueError: The file has another checksum, holds no tensors, or was made for another CLIP.
        StorageError: The file cannot be read.
    """

    def __init__(self, config: AestheticConfig, clip: Clip) -> None:
        self._clip = clip
        self._head = AestheticHead(clip.num_channels)
        load_weights(self._head, read_tensors(config.weights), where=config.weights.uri)
        self._head.eval().requires_grad_(False).to(clip.device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Picture], captions: Sequence[str] = ()) -> Float32[np.ndarray, " n"]:
        """Return the score of every picture; captions are ignored."""
        return np.asarray(self._head(normalised(self._clip.embed_pictures(pictures))).cpu().numpy(), np.float32)
