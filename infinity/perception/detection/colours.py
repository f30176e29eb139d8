"""Colours of objects by CLIP, zero-shot: which of several colour words fits a picture of an object best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from infinity.config import Config
from infinity.perception.clip import Clip, ClipConfig, normalised
from infinity.ranges import Count, ModelName

TEMPLATES = ("a photo of a {colour} {thing}", "a photo of a {colour}-colored {thing}", "a photo of a {colour} object")
"""Sentences of the public GenEval scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourConfig(Config):
    """Configuration of the CLIP.

    Attributes:
        model: A local folder or hub name of a CLIP.
        sha256: First 8 to 64 digits of the checksum of the folder's weights, or None for no check.
        batch_size: Pictures per batch.
    """

    model: ModelName = "openai/clip-vit-large-patch14"
    sha256: str | None = None
    batch_size: Count = 16


class ColourClassifier:
    """Classifier that names colours, by CLIP in evaluation mode.

    A colour's direction is the normalised mean of the normalised features of its sentences. The answer is the colour
    whose direction is nearest to a picture's features; between equals, the first.

    Raises:
        ValueError: There is no CLIP, its weights are not the expected ones, or tensors are missing.
    """

    def __init__(self, config: ColourConfig, device: str = "cpu") -> None:
        self._clip = Clip(ClipConfig(model=config.model, sha256=config.sha256, batch_size=config.batch_size), device)
        self._directions: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def name(self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]], thing: str, colours: tuple[str, ...]) -> list[str]:
        """Return the colour of the object in every picture.

        Args:
            colours: Possible answers.
        """
        features = normalised(self._clip.embed_pictures(pictures))
        best = (features @ self._directions_of(thing, colours).T).argmax(dim=-1)
        return [colours[place] for place in best.tolist()]

    def _directions_of(self, thing: str, colours: tuple[str, ...]) -> Float[Tensor, "n D"]:
        key = thing, colours
        if key not in self._directions:
            texts = [template.format(colour=colour, thing=thing) for colour in colours for template in TEMPLATES]
            features = normalised(self._clip.embed_texts(texts))
            self._directions[key] = normalised(features.unflatten(0, (len(colours), len(TEMPLATES))).mean(dim=1))
        return self._directions[key]
