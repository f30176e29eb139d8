"""Published image classifiers as detectors of unsafe content and of watermarks: probabilities of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from infinity.config import digest_of
from infinity.perception.clip import Picture, rgb
from infinity.perception.loading import PretrainedConfig, folder_digest, load_pretrained, model_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageClassifierConfig(PretrainedConfig):
    """Configuration of a classifier and of the labels that count.

    Attributes:
        kind: Tag that tells this scorer from others in JSON; also the name of the score.
        model: A local folder or hub name of any image classifier that transformers knows.
        labels: Labels, in the model's spelling, whose probability is the score (the sum for several labels).
    """

    kind: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError(f"{type(self).__name__}.labels: expected at least one, got none")

    @property
    def score(self) -> str:
        """Name of the score in tables."""
        return self.kind

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides the picture."""
        folder = model_folder("image classifier", self.model, self.revision)
        return digest_of([folder_digest(folder), sorted(self.labels), self.dtype])


@dataclass(frozen=True, kw_only=True, slots=True)
class NsfwConfig(ImageClassifierConfig):
    """Detector of unsafe content; by default a vision transformer with the labels normal and nsfw."""

    kind: Literal["nsfw"] = "nsfw"
    model: str = "Falconsai/nsfw_image_detection"
    labels: tuple[str, ...] = ("nsfw",)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatermarkConfig(ImageClassifierConfig):
    """Detector of watermarks; by default a SigLIP 2 that was trained on scenery with and without watermarks."""

    kind: Literal["watermark"] = "watermark"
    model: str = "prithivMLmods/Watermark-Detection-SigLIP2"
    labels: tuple[str, ...] = ("Watermark",)


class ImageClassifier:
    """Image classifier in evaluation mode.

    Raises:
        ValueError: There is no classifier, its weights are not the expected ones, or tensors or a label are missing.
    """

    def __init__(self, config: ImageClassifierConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self._batch_size = config.batch_size
        loaders = AutoImageProcessor, AutoModelForImageClassification
        self._processor, self._model = load_pretrained("image classifier", config, *loaders)
        self._places = _places(config, {str(name): int(n) for n, name in self._model.config.id2label.items()})
        self._is_multi_label = self._model.config.problem_type == "multi_label_classification"
        self._model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Picture], captions: Sequence[str] = ()) -> Float32[np.ndarray, " n"]:
        """Return the probability, 0 to 1, of the labels that count; the largest one if labels may occur together."""
        scores = [np.zeros(0, np.float32)]
        for start in range(0, len(pictures), self._batch_size):
            batch = [rgb(picture) for picture in pictures[start : start + self._batch_size]]
            inputs = self._processor(images=batch, return_tensors="pt", input_data_format="channels_last")
            pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
            logits = self._model(pixel_values=pixels).logits.float()
            if self._is_multi_label:
                found = logits.sigmoid()[:, self._places].amax(dim=-1)
            else:
                found = logits.softmax(dim=-1)[:, self._places].sum(dim=-1)
            scores.append(found.cpu().numpy())
        return np.concatenate(scores)


def _places(config: ImageClassifierConfig, numbers: dict[str, int]) -> list[int]:
    if unknown := sorted(set(config.labels) - set(numbers)):
        raise ValueError(
            f"{config.model}: expected labels among {', '.join(map(repr, sorted(numbers)))}, got "
            f"{', '.join(map(repr, unknown))}"
        )
    return [numbers[label] for label in sorted(set(config.labels))]
