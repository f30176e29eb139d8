"""The data stage's scorer for own output: how strongly a picture carries the watermark of a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from infinity import storage
from infinity.checkpoint import read_kind_and_config
from infinity.config import Config, digest_of
from infinity.generation.files.model_folder import model_folder
from infinity.generation.watermark.detection import WatermarkDetector
from infinity.generation.watermark.key import read_watermark_key


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnOutputConfig(Config):
    """Configuration of the scorer; the rule is ``filters.models.max_own_output``.

    Attributes:
        kind: Tag that tells this scorer from others in JSON.
        model: Model folder, or the folder of a run, whose pictures are looked for.
        key_file: File of the watermark's key, or ``env:NAME``; every worker reads it, and only this place is stored.
        crops: Shares of the sides that may have been cut off; each costs about 15 more encodings per picture.
    """

    kind: Literal["own_output"] = "own_output"
    model: str
    key_file: str
    crops: tuple[float, ...] = ()

    @property
    def score(self) -> str:
        """Name of the score in tables."""
        return self.kind

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides the picture; the key does not follow.

        Raises:
            ValueError: There is no model or no key.
        """
        _, config = read_kind_and_config(model_folder(storage.absolute(self.model)))
        return digest_of([config, read_watermark_key(self.key_file).id, self.crops])

    def load(self, device: str) -> OwnOutputScorer:
        """Return the scorer, ready on a device.

        Raises:
            ValueError: There is no model or no key, or the folder is damaged.
        """
        return OwnOutputScorer(
            WatermarkDetector.load(self.model, read_watermark_key(self.key_file), device), self.crops
        )


class OwnOutputScorer:
    """Scores pictures by -log10 of the p-value of the watermark test: 6 is one in a million by chance."""

    def __init__(self, detector: WatermarkDetector, crops: Sequence[float] = ()) -> None:
        self.detector, self.crops = detector, tuple(crops)

    def __call__(
        self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]], captions: Sequence[str]
    ) -> Float32[np.ndarray, " n"]:
        """Return one number per picture; captions do not matter."""
        found = [self.detector.test(Image.fromarray(picture), self.crops) for picture in pictures]
        return np.array([-each.log10_p for each in found], np.float32)
