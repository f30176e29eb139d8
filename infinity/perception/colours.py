"""Colours of things by CLIP, zero-shot: which of some words fits a picture of a thing best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from infinity.config import Config
from infinity.perception.loading import check_weights, explain

TEMPLATES = ("a photo of a {colour} {thing}", "a photo of a {colour}-colored {thing}", "a photo of a {colour} object")
"""Those of the public GenEval scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourConfig(Config):
    """Which CLIP.

    Attributes:
        model: A local folder or hub name of a CLIP.
        sha256: First 8 to 64 digits of the checksum of the folder's weights; None checks nothing.
        batch_size: Pictures that run at once.
    """

    model: str = "openai/clip-vit-large-patch14"
    sha256: str | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not self.model.strip() or self.batch_size < 1:
            raise ValueError(
                f"ColourConfig: expected a model and a batch_size of at least 1, got {self.model!r}, {self.batch_size}"
            )


class ColourClassifier:
    """CLIP in evaluation mode.

    A colour's direction is the normalised mean of the normalised features of its sentences; the colour whose direction
    is nearest to a picture's features is the answer, the first of equals.

    Raises:
        ValueError: No CLIP there, other weights than expected, or weights with tensors missing.
    """

    def __init__(self, config: ColourConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoProcessor, CLIPModel

        check_weights(config.model, config.sha256)
        self.config = config
        try:
            self._processor: Any = AutoProcessor.from_pretrained(config.model, backend="pil")
            self._model, report = CLIPModel.from_pretrained(config.model, output_loading_info=True)
        except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
            raise ValueError(explain("CLIP", config.model, error)) from error
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{config.model}: expected all tensors of a CLIP, missing {', '.join(missing[:5])}")
        self._model.eval().requires_grad_(False).to(device)
        self._directions: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    @torch.no_grad()
    def name(self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]], thing: str, colours: tuple[str, ...]) -> list[str]:
        """The colour of the thing in every picture.

        Args:
            pictures: Of any size.
            thing: What they show.
            colours: What may be answered.
        """
        directions, names = self._directions_of(thing, colours), []
        for start in range(0, len(pictures), self.config.batch_size):
            batch = list(pictures[start : start + self.config.batch_size])
            inputs = self._processor(images=batch, return_tensors="pt", input_data_format="channels_last")
            features = self._features(self._model.get_image_features(inputs["pixel_values"].to(self._model.device)))
            names += [colours[place] for place in (features @ directions.T).argmax(dim=-1).tolist()]
        return names

    def _directions_of(self, thing: str, colours: tuple[str, ...]) -> Float[Tensor, "n D"]:
        key = thing, colours
        if key not in self._directions:
            texts = [template.format(colour=colour, thing=thing) for colour in colours for template in TEMPLATES]
            inputs = self._processor(text=texts, padding=True, truncation=True, return_tensors="pt")
            features = self._features(self._model.get_text_features(**inputs.to(self._model.device)))
            means = features.unflatten(0, (len(colours), len(TEMPLATES))).mean(dim=1)
            self._directions[key] = means / means.norm(dim=-1, keepdim=True)
        return self._directions[key]

    def _features(self, output: Any) -> Float[Tensor, "n D"]:
        """Of length 1; some versions of transformers wrap them."""
        features: Tensor = getattr(output, "pooler_output", output).float()
        normalised: Tensor = features / features.norm(dim=-1, keepdim=True)
        return normalised
