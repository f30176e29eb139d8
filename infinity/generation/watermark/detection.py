"""Find a watermark in a picture: encode it, count the pairs that differ as the key says, and give the p-value."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from infinity import storage
from infinity.bits import BitLabels
from infinity.checkpoint import read_kind_and_config
from infinity.data.images.fitting import fit
from infinity.data.images.rgb import to_rgb
from infinity.generation.files.model_folder import model_folder
from infinity.generation.watermark.key import WatermarkKey
from infinity.generation.watermark.pattern import count_pairs
from infinity.scales import Resolution, ScaleSchedule, nearest_aspect_ratio
from infinity.tokenizer import Tokenizer
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.saved import load_tokenizer

DEFAULT_THRESHOLD = 1e-6
"""Largest p-value that counts as found."""
CROPS = (0.05,)
"""Shares of the sides that may have been cut off, beside none."""
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class WatermarkTest:
    """Result of the test of one picture.

    Attributes:
        green: Pairs of bits that differ as the key says.
        pairs: Pairs of bits that differ.
        log10_p: Logarithm to base 10 of the p-value; the p-value itself may be too small for a float.
        alignments: Alignments that were tried; the p-value accounts for them (Bonferroni).
    """

    green: int
    pairs: int
    log10_p: float
    alignments: int = 1

    @property
    def p_value(self) -> float:
        """Probability of at least this agreement in a picture without this watermark, over the choice of the key."""
        return float(10.0**self.log10_p)

    def is_found(self, threshold: float = DEFAULT_THRESHOLD) -> bool:
        """Return whether the p-value is at most a threshold."""
        return self.log10_p <= math.log10(threshold)


@functools.lru_cache(maxsize=65_536)
def log10_tail(green: int, pairs: int) -> float:
    """Return log10 of the probability of at least ``green`` heads in ``pairs`` throws of a fair coin, exactly.

    Example:
        >>> round(10 ** log10_tail(9, 10), 6)  # 11 of 1024
        0.010742
        >>> log10_tail(0, 0)
        0.0
    """
    k = torch.arange(green, pairs + 1, dtype=torch.float64)
    terms = math.lgamma(pairs + 1) - torch.lgamma(k + 1) - torch.lgamma(pairs - k + 1) - pairs * math.log(2)
    return min(0.0, float(torch.logsumexp(terms, dim=0)) / math.log(10))


def labels_tests(key: WatermarkKey, labels: BitLabels) -> list[WatermarkTest]:
    """Test bits, which may come from a picture or from a drawing itself; one result per picture.

    Under any fixed bits and a random key, the pairs that differ agree with the key like fair coins. So the p-value is
    exact for every picture, however alike its bits are.
    """
    counts = [count_pairs(key, labels.scale(k), k) for k in range(labels.schedule.num_scales)]
    green, pairs = (torch.stack(each).sum(dim=0).tolist() for each in zip(*counts, strict=True))
    return [
        WatermarkTest(green=some, pairs=count, log10_p=log10_tail(some, count))
        for some, count in zip(green, pairs, strict=True)
    ]


class WatermarkDetector:
    """A tokenizer and a key; the transformer is not needed."""

    def __init__(self, tokenizer: Tokenizer, resolution: Resolution, key: WatermarkKey) -> None:
        self.tokenizer, self.resolution, self.key = tokenizer, resolution, key

    @classmethod
    def load(cls, model: str, key: WatermarkKey, device: str = "cpu") -> WatermarkDetector:
        """Load the tokenizer of a model folder, or of a run.

        Raises:
            CheckpointError: The folder is damaged, or there is none.
            ValueError: The folder is a tokenizer's, which knows no sizes of pictures.
        """
        from infinity.generation.pipeline import KIND, TOKENIZER_FOLDER, ModelConfig

        folder = model_folder(storage.absolute(model))
        kind, config = read_kind_and_config(folder)
        if kind != KIND:
            raise ValueError(f"{folder}: expected a model folder, found the checkpoint of a {kind}")
        tokenizer = load_tokenizer(storage.join(folder, TOKENIZER_FOLDER)).to(device)
        return cls(tokenizer, ModelConfig.from_json(config, where=folder).resolution, key)

    def test(self, image: Image.Image, crops: Sequence[float] = CROPS) -> WatermarkTest:
        """Test a picture of any size and mode.

        Args:
            image: Picture; it is scaled to the nearest of the model's shapes, as all pictures are.
            crops: Shares of the sides, each from 0 to below 1, that may have been cut off; empty tries the picture as
                it is, which is faster and has more power where nothing was cut off.

        Raises:
            ValueError: A share is out of range.
        """
        if any(not 0 <= crop < 1 for crop in crops):
            raise ValueError(f"crops: expected shares from 0 to below 1, got {list(crops)!s:.80}")
        picture = to_rgb(image)
        ratio = nearest_aspect_ratio(picture.height, picture.width)
        schedule = self.resolution.schedule(ratio)
        size = schedule.image_size_px(self.tokenizer.config.stride_px)
        views = [np.array(fit(view, size)) for view in _alignments(picture, schedule, crops)]
        found = [
            result
            for start in range(0, len(views), _AT_ONCE)
            for result in self._tests(views[start : start + _AT_ONCE], schedule)
        ]
        best, count = min(found, key=lambda each: each.log10_p), len(found)
        log10_p = min(0.0, best.log10_p + math.log10(count))
        return WatermarkTest(green=best.green, pairs=best.pairs, log10_p=log10_p, alignments=count)

    @torch.no_grad()
    def _tests(self, views: Sequence[np.ndarray], schedule: ScaleSchedule) -> list[WatermarkTest]:
        device = next(self.tokenizer.parameters()).device
        features = self.tokenizer.encode(to_pixels(torch.from_numpy(np.stack(views)), device))
        return labels_tests(self.key, self.tokenizer.quantize(features, schedule).labels)


def _alignments(picture: Image.Image, schedule: ScaleSchedule, crops: Sequence[float]) -> Iterator[Image.Image]:
    """Yield the picture, and the picture put back to where a crop may have taken it from, with its edges repeated."""
    yield picture
    rows, columns = schedule.last_grid
    for crop in crops:
        for cut_rows, cut_columns in ((crop, crop), (crop, 0.0), (0.0, crop)) if crop else ():
            for top in _starts(cut_rows, rows):
                for left in _starts(cut_columns, columns):
                    yield _put_back(picture, cut_rows, cut_columns, top, left)


def _starts(cut: float, tokens: int) -> list[float]:
    """Return where a cut may begin, as shares of it, about one token apart."""
    if cut == 0.0:
        return [0.0]
    steps = max(2, math.ceil(cut * tokens))
    return [step / steps for step in range(steps + 1)]


def _put_back(picture: Image.Image, cut_rows: float, cut_columns: float, top: float, left: float) -> Image.Image:
    missing = round(picture.height / (1 - cut_rows)) - picture.height
    absent = round(picture.width / (1 - cut_columns)) - picture.width
    above, before = round(missing * top), round(absent * left)
    padding = ((above, missing - above), (before, absent - before), (0, 0))
    return Image.fromarray(np.pad(np.asarray(picture), padding, mode="edge"))
