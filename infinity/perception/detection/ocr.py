"""Share of a picture that text covers, by RapidOCR (PP-OCR networks on ONNX Runtime, which its wheel contains).

A detector marks quadrilaterals and a recogniser reads them; what it cannot read with enough confidence is not text. The
share is that of the pixels within any quadrilateral, so that overlaps count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from infinity.config import Config, digest_of
from infinity.perception.clip import Picture, rgb
from infinity.ranges import Range, Share


@dataclass(frozen=True, kw_only=True, slots=True)
class TextAreaConfig(Config):
    """Configuration of the search for text.

    Attributes:
        kind: Tag that tells this scorer from others in JSON.
        min_confidence: Smallest confidence of the recogniser for a word, 0 to 1.
        max_side_px: Longer side to which larger pictures are reduced first.
    """

    kind: Literal["text_area"] = "text_area"
    min_confidence: Share = 0.7
    max_side_px: Annotated[int, Range(32)] = 2000

    @property
    def score(self) -> str:
        """Name of the score in tables."""
        return "text_area"

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides the picture; the wheel contains the networks.

        Raises:
            ValueError: The library is not installed.
        """
        try:
            versions = [version("rapidocr"), version("onnxruntime")]
        except PackageNotFoundError as error:
            raise ValueError(_missing(error)) from error
        return digest_of([*versions, self.min_confidence, self.max_side_px])


@dataclass(frozen=True, slots=True)
class Word:
    """One piece of text in a picture.

    Attributes:
        confidence: Confidence of the recogniser, 0 to 1.
        corners: Four corners (x, y) in pixels.
    """

    text: str
    confidence: float
    corners: tuple[tuple[float, float], ...]


class TextArea:
    """RapidOCR, loaded.

    Raises:
        ValueError: The library is not installed.
    """

    def __init__(self, config: TextAreaConfig, threads: int = 1) -> None:
        try:
            import onnxruntime  # noqa: F401  # our error message says more than the library's
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ValueError(_missing(error)) from error
        self._engine: Any = RapidOCR(
            params={
                "Global.log_level": "critical",  # the library warns of every picture without text
                "Global.text_score": config.min_confidence,
                "Global.max_side_len": config.max_side_px,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def words(self, picture: Picture) -> list[Word]:
        """Return the text that can be read in a picture."""
        found = self._engine(np.ascontiguousarray(rgb(picture)[:, :, ::-1]))  # the library expects BGR
        if found.boxes is None or found.txts is None:
            return []
        return [
            Word(str(text), float(confidence), tuple((float(x), float(y)) for x, y in corners))
            for text, confidence, corners in zip(found.txts, found.scores, found.boxes, strict=True)
        ]

    def __call__(self, pictures: Sequence[Picture], captions: Sequence[str] = ()) -> Float32[np.ndarray, " n"]:
        """Return the share, 0 to 1, of every picture; captions are ignored."""
        return np.array([self._share(rgb(picture)) for picture in pictures], np.float32)

    def _share(self, picture: np.ndarray) -> float:
        covered = Image.new("1", (picture.shape[1], picture.shape[0]))
        draw = ImageDraw.Draw(covered)
        for word in self.words(picture):
            draw.polygon(word.corners, fill=1)
        return float(np.asarray(covered).mean())


def _missing(error: ImportError) -> str:
    return f"reading text in pictures needs RapidOCR ({error}); install it with: pip install 'infinity-t2i[ocr]'"
