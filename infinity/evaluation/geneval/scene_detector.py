"""An exact detector for drawn scenes: which shapes a picture shows, where, and in which colours.

A region of pixels that differ from the background is a candidate. It counts as a shape only if its outline, given by
how much of each pixel it covers, agrees with a drawing of that shape at the same centre of mass and with the same area.
Everything else (blobs, fragments, two shapes grown together) is no detection. The colour does not help to recognise a
shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from infinity.config import Config
from infinity.evaluation.geneval.scoring import ClassDetections, Detections
from infinity.scenes.drawing import BACKGROUND, SIZE_RANGE, Point, coverage
from infinity.scenes.prompts import COLORS, PLURALS


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneDetectorConfig(Config):
    """Thresholds of the detector.

    Attributes:
        min_overlap: Smallest agreement with a shape's drawing: sum of the smaller coverage over sum of the larger, 0
            to 1. Exact drawings reach more than 0.92.
        min_lead: Smallest lead of a region's agreement with a shape over that of any other drawn shape with it. A
            circle and a square agree by 0.84, so these two need almost exact outlines; a moon resembles nothing else,
            so it is recognised from ``min_overlap`` on.
        min_margin: Smallest lead of the best shape over the second best.
        min_contrast: RGB distance from the background below which a pixel belongs to the background.
        size_slack: Factor by which a shape's side may leave the range of drawn sizes.
    """

    min_overlap: float = 0.75
    min_lead: float = 0.02
    min_margin: float = 0.02
    min_contrast: float = 45.0
    size_slack: float = 1.4


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundShape:
    """One recognised shape: box (left, top, right, bottom) in pixels, score (its overlap, 0 to 1) and colour name."""

    shape: str
    color: str
    box_px: tuple[float, float, float, float]
    score: float


def detect(image: UInt8[np.ndarray, "H W 3"], config: SceneDetectorConfig | None = None) -> Detections:
    """Return everything found in one picture, by class, in the format of the scorer.

    Scores lie above 0.9, since a region is either recognised or not: the scorer's thresholds of 0.3 and 0.9 (for
    counting) keep every recognised shape.
    """
    by_shape: dict[str, list[FoundShape]] = {}
    for found in find_shapes(image, config):
        by_shape.setdefault(found.shape, []).append(found)
    return {
        shape: ClassDetections(
            boxes=np.array([found.box_px for found in group], np.float32),
            scores=np.array([0.9 + 0.1 * found.score for found in group], np.float32),
            colours=[found.color for found in group],
        )
        for shape, group in by_shape.items()
    }


def find_shapes(image: UInt8[np.ndarray, "H W 3"], config: SceneDetectorConfig | None = None) -> list[FoundShape]:
    """Return the shapes in a picture, in the order of their first pixels, top to bottom.

    Raises:
        ValueError: Not a square uint8 RGB picture.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != image.shape[1]:
        raise ValueError(f"expected a square uint8 RGB picture (H, H, 3), got {image.dtype} {image.shape}")
    config = config or SceneDetectorConfig()
    pixels = image.astype(np.float32)
    contrast = np.linalg.norm(pixels - np.array(BACKGROUND, np.float32), axis=-1)
    from scipy import ndimage  # slow to import, and most processes detect nothing

    regions, num_regions = ndimage.label(contrast > config.min_contrast)
    found = (_recognise(pixels, contrast, regions == index, config) for index in range(1, num_regions + 1))
    return [shape for shape in found if shape is not None]


def _recognise(
    pixels: Float[np.ndarray, "H W 3"],
    contrast: Float[np.ndarray, "H W"],
    region: Bool[np.ndarray, "H W"],
    config: SceneDetectorConfig,
) -> FoundShape | None:
    size_px = len(pixels)
    from scipy import ndimage

    # The region and the pale pixels of its edge, but no pixels of a neighbour.
    nearby = ndimage.binary_dilation(region, iterations=1)
    core = region & (contrast >= np.quantile(contrast[region], 0.5))
    seen = np.median(pixels[core], axis=0)
    cover = np.where(nearby, np.clip(contrast / np.median(contrast[core]), 0.0, 1.0), 0.0)
    # Noise of the background must not count as coverage.
    cover[cover < 0.12] = 0.0
    area = float(cover.sum())
    rows, columns = np.indices(cover.shape)
    center = (float((cover * (columns + 0.5)).sum() / area), float((cover * (rows + 0.5)).sum() / area))
    overlaps = {shape: _overlap(cover, shape, center, area, config) for shape in PLURALS}
    (best, overlap), (_, second) = sorted(overlaps.items(), key=lambda item: -item[1])[:2]
    needed = max(config.min_overlap, _rival_overlap(best) + config.min_lead)
    if overlap < needed or overlap - second < config.min_margin:
        return None
    ys, xs = np.nonzero(cover >= 0.5)
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    assert max(box) <= size_px
    return FoundShape(shape=best, color=_nearest_color(seen), box_px=box, score=overlap)


def _overlap(
    cover: Float[np.ndarray, "H W"], shape: str, center: Point, area: float, config: SceneDetectorConfig
) -> float:
    """Return soft intersection over union with the shape of equal area and centre; 0 for a size that is never drawn."""
    size_px = len(cover)
    unit_area, (dx, dy) = _moments(shape)
    side = (area / unit_area) ** 0.5
    smallest, largest = (share * size_px for share in SIZE_RANGE)
    if not smallest / config.size_slack <= side <= largest * config.size_slack:
        return 0.0
    drawn = coverage(shape, (center[0] - dx * side, center[1] - dy * side), side, size_px)
    return float(np.minimum(cover, drawn).sum() / np.maximum(cover, drawn).sum())


@cache
def _rival_overlap(shape: str) -> float:
    """Return the best agreement of any other shape's drawing with this shape."""
    size_px = 48
    config, side = SceneDetectorConfig(), sum(SIZE_RANGE) / 2 * size_px
    best = 0.0
    for other in PLURALS.keys() - {shape}:
        unit_area, (dx, dy) = _moments(other)
        middle = size_px / 2
        drawn = coverage(other, (middle, middle), side, size_px)
        center = (middle + dx * side, middle + dy * side)
        best = max(best, _overlap(drawn, shape, center, unit_area * side**2, config))
    return best


@cache
def _moments(shape: str) -> tuple[float, Point]:
    """Return area and centre of mass of a shape in a frame of side 1 around the origin, from a large drawing."""
    size_px = 256
    drawn = coverage(shape, (size_px / 2, size_px / 2), size_px * 0.75, size_px)
    area = float(drawn.sum())
    rows, columns = np.indices(drawn.shape)
    x, y = (float((drawn * (axis + 0.5)).sum() / area - size_px / 2) / (size_px * 0.75) for axis in (columns, rows))
    return area / (size_px * 0.75) ** 2, (x, y)


def _nearest_color(rgb: Float[np.ndarray, " 3"]) -> str:
    return min(COLORS, key=lambda name: float(np.linalg.norm(rgb - np.array(COLORS[name], np.float32))))
