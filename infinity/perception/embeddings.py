"""Vectors of pictures for distances between sets: CLIP as CMMD prepares pictures, DINOv2 as FD-DINOv2 does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from infinity.config import Config
from infinity.perception import efficientnet_lite
from infinity.perception.clip import Picture, normalised, rgb
from infinity.perception.loading import check_complete, check_weights, explain, folder_digest, model_folder
from infinity.ranges import Count
from infinity.storage.pinned import file_sha256

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

EmbeddingKind = Literal["cmmd", "fd_dinov2", "fd_efficientnet_lite0"]
_PUBLISHED: dict[EmbeddingKind, str] = {
    "cmmd": "openai/clip-vit-large-patch14-336",
    "fd_dinov2": "facebook/dinov2-large",
    "fd_efficientnet_lite0": efficientnet_lite.PACKAGE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingConfig(Config):
    """Network of a distance, and its weights.

    Attributes:
        kind: "cmmd" for CLIP ViT-L/14 at 336 px (arXiv:2401.09603), "fd_dinov2" for DINOv2 ViT-L/14 at 224 px
            (arXiv:2306.04675), "fd_efficientnet_lite0" for EfficientNet-Lite0 at 224 px (a distance of our own: the
            weights come with a small package, so that it can be measured anywhere).
        model: Local folder or hub name, for EfficientNet-Lite0 a file; empty for the published network of the kind.
        revision: Commit, tag or branch of a hub name; None for the newest.
        sha256: First 8 to 64 digits of the checksum of the weights, or None for no check.
        batch_size: Pictures per batch; changes results by rounding only.
    """

    kind: EmbeddingKind
    model: str = ""
    revision: str | None = None
    sha256: str | None = None
    batch_size: Count = 32

    @property
    def place(self) -> str:
        """The local folder or hub name."""
        return self.model or _PUBLISHED[self.kind]

    def weights_digest(self) -> str:
        """Return 16 digits that name the weights and their settings.

        Raises:
            ValueError: There is no such network.
        """
        if self.kind == "fd_efficientnet_lite0":
            return file_sha256(_lite_file(self))[:16]
        return folder_digest(model_folder(self.kind, self.place, self.revision))


class Embedder(ABC):
    """A network that turns pictures into vectors, float32, in evaluation mode.

    Attributes:
        config: Configuration that was loaded.
        digest: Name of the weights, 16 digits.

    Raises:
        ValueError: There is no such network, its weights are not the expected ones, or tensors are missing.
    """

    def __init__(self, config: EmbeddingConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        import transformers

        self.config, self._device = config, device
        folder = model_folder(self.what, config.place, config.revision)
        check_weights(str(folder), config.sha256)
        try:
            loader = getattr(transformers, self.loader)
            self._model, report = loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError, ImportError, TypeError, KeyError, RuntimeError) as error:
            raise ValueError(explain(self.what, config.place, error)) from error
        check_complete(self._model, report, config.place)
        self._model.eval().requires_grad_(False).to(device)
        self.digest = folder_digest(folder)

    what: str
    loader: str

    @property
    def side_px(self) -> int:
        """Side of the network's pictures in pixels."""
        return 224

    def prepare(self, picture: Image.Image) -> Image.Image:
        """Return the picture scaled to a square of the network's size by Pillow's bicubic filter."""
        return picture.resize((self.side_px, self.side_px), Image.Resampling.BICUBIC)

    @abstractmethod
    def vectors(self, pixels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n D"]:
        """Return the vectors of prepared pixels."""

    @abstractmethod
    def describe(self) -> str:
        """Return network and preparation in words, for the protocol."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @torch.no_grad()
    def embed(self, pictures: Sequence[Picture]) -> Float[Tensor, "n D"]:
        """Return one vector per picture, on the CPU."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        found = []
        for start in range(0, len(pictures), self.config.batch_size):
            batch = [
                self.prepare(Image.fromarray(rgb(each))) for each in pictures[start : start + self.config.batch_size]
            ]
            pixels = torch.stack([torch.from_numpy(np.array(each)).permute(2, 0, 1) / 255 for each in batch])
            found.append(self.vectors(((pixels - mean) / std).to(self._device)).float().cpu())
        return torch.cat(found)


class CmmdEmbedder(Embedder):
    """CLIP's picture encoder with CMMD's preparation: the middle square, bicubic; vectors of length 1."""

    what, loader = "CLIP", "CLIPModel"
    mean, std = _CLIP_MEAN, _CLIP_STD

    @property
    def side_px(self) -> int:
        """Side of the network's pictures in pixels."""
        return int(self._model.config.vision_config.image_size)

    def prepare(self, picture: Image.Image) -> Image.Image:
        """Return the middle square, scaled by Pillow's bicubic filter."""
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        return super().prepare(square)

    def vectors(self, pixels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n D"]:
        """Return projected vectors of length 1."""
        found = self._model.get_image_features(pixel_values=pixels)
        return normalised(getattr(found, "pooler_output", found))  # some versions of transformers wrap it

    def describe(self) -> str:
        return (
            f"{self.config.place} digest {self.digest}, middle square to {self.side_px} px (bicubic, 8 bits), length 1"
        )


class Dinov2Embedder(Embedder):
    """DINOv2 with the preparation of FD-DINOv2's public code: both sides scaled to 224 px, the first token's vector."""

    what, loader = "DINOv2", "Dinov2Model"
    mean, std = _IMAGENET_MEAN, _IMAGENET_STD

    def vectors(self, pixels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n D"]:
        """Return the first token after the last norm."""
        found: Tensor = self._model(pixel_values=pixels).last_hidden_state[:, 0]
        return found

    def describe(self) -> str:
        return f"{self.config.place} digest {self.digest}, scaled to {self.side_px} px (bicubic, 8 bits), first token"


class EfficientNetLiteEmbedder(Embedder):
    """EfficientNet-Lite0: both sides scaled to 224 px, the mean of the last map."""

    mean, std = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)

    def __init__(self, config: EmbeddingConfig, device: str = "cpu") -> None:
        self.config, self._device = config, device
        file = _lite_file(config)
        found, expected = file_sha256(file), config.sha256 or ("" if config.model else efficientnet_lite.SHA256)
        if not found.startswith(expected):
            raise ValueError(f"{file}: expected a file with the sha256 {expected}, found {found}")
        self._model, self.digest = efficientnet_lite.load(file).to(device), found[:16]

    def vectors(self, pixels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n D"]:
        """Return the mean of the last map."""
        found: Tensor = self._model.features(pixels)
        return found

    def describe(self) -> str:
        return (
            f"EfficientNet-Lite0 (ImageNet) {self.config.place} sha256 {self.digest}, scaled to {self.side_px} px "
            "(bicubic, 8 bits), mean of the last map"
        )


def _lite_file(config: EmbeddingConfig) -> Path:
    file = Path(config.model) if config.model else efficientnet_lite.packaged_weights()
    if not file.is_file():
        raise ValueError(f"{file}: expected the weights file of EfficientNet-Lite0, found none")
    return file


_EMBEDDERS: dict[EmbeddingKind, Any] = {
    "cmmd": CmmdEmbedder, "fd_dinov2": Dinov2Embedder, "fd_efficientnet_lite0": EfficientNetLiteEmbedder,
}  # fmt: skip


def load_embedder(config: EmbeddingConfig, device: str = "cpu") -> Embedder:
    """Return the network of a distance; raise what `Embedder` raises."""
    found: Embedder = _EMBEDDERS[config.kind](config, device)
    return found
