"""CLIP through transformers: pictures and captions as vectors that can be compared.

The filters of the data stage and the benchmarks use the same wrapper. Pictures are prepared as the published processor
says. (For OpenAI's models, Pillow's bicubic filter scales the short side to 224 pixels, the middle 224 x 224 pixels are
cut out, and levels are normalised.) Captions have at most 77 tokens. Longer ones are cut so that the closing token,
whose features stand for the sentence, remains the last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from infinity.config import digest_of
from infinity.perception.loading import PretrainedConfig, folder_digest, load_pretrained, model_folder
from infinity.ranges import ModelName

Picture = UInt8[np.ndarray, "H W 3"] | Image.Image
"""RGB picture of any size, levels 0 to 255; a Pillow picture of another mode is converted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipConfig(PretrainedConfig):
    """Configuration of a CLIP; vectors are float32 whatever its data type is."""

    model: ModelName = "openai/clip-vit-large-patch14"

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a vector depends on besides picture and caption."""
        return digest_of([folder_digest(model_folder("CLIP", self.model, self.revision)), self.dtype])


class PictureTextEncoder(ABC):
    """Two encoders into one space, whose vectors of pictures and texts can be compared.

    Args:
        model: CLIP of transformers; it is put into evaluation mode.
        batch_size: Pictures or texts per batch.
    """

    def __init__(self, model: Any, batch_size: int, device: str) -> None:
        self._model, self._batch_size = model, batch_size
        self._model.eval().requires_grad_(False).to(device)

    @abstractmethod
    def prepare(self, pictures: Sequence[Picture]) -> Float[Tensor, "n 3 S S"]:
        """Return the network's input for pictures."""

    @abstractmethod
    def tokens(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the network's input for texts."""

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        device: torch.device = self._model.device
        return device

    @property
    def num_channels(self) -> int:
        """Length D of a vector: 768 for ViT-L/14."""
        return int(self._model.config.projection_dim)

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens per text, 77 for CLIP; longer texts are cut."""
        return int(self._model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def embed_pictures(self, pictures: Sequence[Picture]) -> Float[Tensor, "n D"]:
        """Return float32 vectors on the network's device, not normalised."""
        vectors = [self._empty()]
        for start in range(0, len(pictures), self._batch_size):
            pixels = self.prepare(pictures[start : start + self._batch_size]).to(self.device, self._model.dtype)
            vectors.append(_unwrapped(self._model.get_image_features(pixels)))
        return torch.cat(vectors)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n D"]:
        """Return float32 vectors on the network's device, not normalised."""
        vectors = [self._empty()]
        for start in range(0, len(texts), self._batch_size):
            tokens = self.tokens(texts[start : start + self._batch_size])
            vectors.append(
                _unwrapped(self._model.get_text_features(**{k: v.to(self.device) for k, v in tokens.items()}))
            )
        return torch.cat(vectors)

    def similarity(self, pictures: Sequence[Picture], texts: Sequence[str]) -> Float[Tensor, " n"]:
        """Return the cosine, -1 to 1, of each picture and the caption at the same place."""
        if len(pictures) != len(texts):
            raise ValueError(f"expected as many captions as pictures, got {len(texts)} and {len(pictures)}")
        return (normalised(self.embed_pictures(pictures)) * normalised(self.embed_texts(texts))).sum(dim=-1)

    def _empty(self) -> Float[Tensor, "0 D"]:
        return torch.zeros(0, self.num_channels, device=self.device)


class Clip(PictureTextEncoder):
    """CLIP in evaluation mode.

    Attributes:
        config: Configuration that was loaded.
        digest: Name of weights, processor and tokenizer, 16 digits, for the keys of caches.

    Raises:
        ValueError: There is no CLIP, its weights are not the expected ones, or tensors are missing.
    """

    def __init__(self, config: ClipConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoProcessor, CLIPModel

        self.config = config
        self._processor, model = load_pretrained("CLIP", config, AutoProcessor, CLIPModel)
        super().__init__(model, config.batch_size, device)
        self.digest = folder_digest(model_folder("CLIP", config.model, config.revision))

    @property
    def logit_scale(self) -> float:
        """Factor with which the network was trained to multiply cosines."""
        return float(self._model.logit_scale.exp())

    def prepare(self, pictures: Sequence[Picture]) -> Float[Tensor, "n 3 S S"]:
        """Return pictures as the published processor prepares them."""
        batch = [rgb(picture) for picture in pictures]
        inputs = self._processor(images=batch, return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = inputs["pixel_values"]
        return pixels

    def tokens(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return tokens by the published tokenizer, at most 77 per text."""
        tokens: Mapping[str, Tensor] = self._processor(
            text=list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return tokens


def normalised(vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Return the vectors scaled to length 1."""
    scaled: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return scaled


def rgb(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture as an RGB array."""
    return np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture


def _unwrapped(output: Any) -> Float[Tensor, "n D"]:
    """Return the vectors, which some versions of transformers wrap in an object."""
    vectors: Tensor = getattr(output, "pooler_output", output).float()
    return vectors
