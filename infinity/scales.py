"""Scale schedules: the grids of a picture for all aspect ratios and sizes (paper Table 10, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar, Literal, get_args

from infinity.config import Config

Size = Literal["256", "512", "768", "1024"]
SIZES: tuple[Size, ...] = get_args(Size)

_NUM_SCALES: dict[Size, int] = {"256": 7, "512": 10, "768": 12, "1024": 13}

Grid = tuple[int, int]

# The order of the ratios matters: of two equally near ratios the first one wins (``nearest_aspect_ratio``).
_TALL_GRIDS: dict[float, tuple[Grid, ...]] = {
    1.0: tuple((n, n) for n in (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)),
    1.25: (
        (1, 1), (2, 2), (3, 3), (5, 4), (10, 8), (15, 12), (20, 16),
        (25, 20), (30, 24), (35, 28), (45, 36), (55, 44), (70, 56),
    ),
    1.333: (
        (1, 1), (2, 2), (4, 3), (8, 6), (12, 9), (16, 12), (20, 15),
        (24, 18), (28, 21), (36, 27), (48, 36), (60, 45), (72, 54),
    ),
    1.5: (
        (1, 1), (2, 2), (3, 2), (6, 4), (9, 6), (15, 10), (21, 14),
        (27, 18), (33, 22), (39, 26), (48, 32), (63, 42), (78, 52),
    ),
    1.75: (
        (1, 1), (2, 2), (3, 3), (7, 4), (11, 6), (14, 8), (21, 12),
        (28, 16), (35, 20), (42, 24), (56, 32), (70, 40), (84, 48),
    ),
    2.0: (
        (1, 1), (2, 2), (4, 2), (6, 3), (10, 5), (16, 8), (22, 11),
        (30, 15), (38, 19), (46, 23), (60, 30), (74, 37), (90, 45),
    ),
    2.5: (
        (1, 1), (2, 2), (5, 2), (10, 4), (15, 6), (20, 8), (25, 10),
        (30, 12), (40, 16), (50, 20), (65, 26), (80, 32), (100, 40),
    ),
    3.0: (
        (1, 1), (2, 2), (6, 2), (9, 3), (15, 5), (21, 7), (27, 9),
        (36, 12), (45, 15), (54, 18), (72, 24), (90, 30), (111, 37),
    ),
}  # fmt: skip
_WIDE_OF_TALL = {1.25: 0.8, 1.333: 0.75, 1.5: 0.666, 1.75: 0.571, 2.0: 0.5, 2.5: 0.4, 3.0: 0.333}


def _all_grids() -> dict[float, tuple[Grid, ...]]:
    grids: dict[float, tuple[Grid, ...]] = {}
    for tall, rows in _TALL_GRIDS.items():
        grids[tall] = rows
        if tall in _WIDE_OF_TALL:
            grids[_WIDE_OF_TALL[tall]] = tuple((w, h) for h, w in rows)
    return grids


_GRIDS = _all_grids()

ASPECT_RATIOS: tuple[float, ...] = tuple(_GRIDS)
"""Height divided by width of the fifteen published shapes, in the order that breaks ties."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleSchedule(Config):
    """Grids of the scales of one picture, coarse to fine.

    Attributes:
        aspect_ratio: Height divided by width.
        grids: Rows and columns of every scale.
        frame: Rows and columns of the grid in whose coordinates RoPE places every scale. For published schedules this
            is the last grid of the 1024 class of the same ratio, whatever the size (paper 3.5; repository basic.py).

    Example:
        >>> schedule = custom_schedule(1.0, last_grid=(4, 4), num_scales=3)
        >>> schedule.grids
        ((1, 1), (2, 2), (4, 4))
        >>> schedule.num_tokens, schedule.spans[1]
        (21, slice(1, 5, None))
        >>> schedule.image_size_px(16)
        (64, 64)
    """

    aspect_ratio: float
    grids: tuple[tuple[int, int], ...]
    frame: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.grids:
            raise ValueError("ScaleSchedule.grids: expected at least one grid, got none")
        if any(h < 1 or w < 1 for h, w in self.grids):
            raise ValueError(f"ScaleSchedule.grids: expected positive rows and columns, got {self.grids}")
        if any(a[0] > b[0] or a[1] > b[1] for a, b in pairwise(self.grids)):
            raise ValueError(f"ScaleSchedule.grids: expected grids from coarse to fine, got {self.grids}")

    @property
    def spans(self) -> tuple[slice, ...]:
        """Range of each scale in the token sequence of length L."""
        ends = accumulate((h * w for h, w in self.grids), initial=0)
        return tuple(slice(a, b) for a, b in pairwise(ends))

    @property
    def num_scales(self) -> int:
        """Number K of scales of the schedule."""
        return len(self.grids)

    @property
    def num_tokens(self) -> int:
        """Number of tokens L of all scales."""
        return sum(h * w for h, w in self.grids)

    @property
    def last_grid(self) -> Grid:
        """Rows and columns of the finest scale."""
        return self.grids[-1]

    def image_size_px(self, stride_px: int) -> Grid:
        """Return height and width in pixels, with one token of the finest scale per ``stride_px`` square."""
        return self.last_grid[0] * stride_px, self.last_grid[1] * stride_px

    def prefix(self, num_scales: int) -> ScaleSchedule:
        """Return the first ``num_scales`` scales in the same frame: a smaller picture of the same ratio."""
        if not 1 <= num_scales <= self.num_scales:
            raise ValueError(f"expected 1 to {self.num_scales} scales, got {num_scales}")
        return self.replace(grids=self.grids[:num_scales])

    def unfolded(self) -> ScaleSchedule:
        """Return the schedule with doubled rows and columns: the bit maps behind folded tokens (8B model)."""
        return self.replace(grids=tuple((2 * h, 2 * w) for h, w in self.grids))


def check_aspect_ratio(ratio: float) -> float:
    """Return the ratio, if a picture can have it.

    Raises:
        ValueError: The ratio is not a number from 1/100 to 100.
    """
    if not 0.01 <= ratio <= 100:
        raise ValueError(f"aspect ratio: expected height / width from 0.01 to 100, got {ratio}")
    return ratio


def published_schedule(aspect_ratio: float, size: Size) -> ScaleSchedule:
    """Return the published grids of one of the fifteen ratios (height / width) at one of four sizes.

    Raises:
        ValueError: The ratio or size is not published; the message lists the published ones.
    """
    if aspect_ratio not in _GRIDS:
        raise ValueError(f"aspect_ratio: expected one of {ASPECT_RATIOS} (height / width), got {aspect_ratio}")
    if size not in _NUM_SCALES:
        raise ValueError(f"size: expected one of {SIZES}, got {size!r}")
    grids = _GRIDS[aspect_ratio]
    return ScaleSchedule(aspect_ratio=aspect_ratio, grids=grids[: _NUM_SCALES[size]], frame=grids[-1])


def custom_schedule(aspect_ratio: float, last_grid: Grid, num_scales: int) -> ScaleSchedule:
    """Return grids for small pictures: from (1, 1) to ``last_grid`` in ``num_scales`` steps.

    Sides grow linearly, since geometric growth would spend most scales on a handful of tokens in a small picture.

    Args:
        aspect_ratio: Height divided by width of the pictures.
        last_grid: Rows and columns of the finest scale.
        num_scales: Number of scales K, at least 1; more than the longer side repeats grids, which refine one another.
    """
    if num_scales < 1:
        raise ValueError(f"num_scales: expected at least 1, got {num_scales}")
    steps = [1.0] if num_scales == 1 else [k / (num_scales - 1) for k in range(num_scales)]
    grids = tuple((round(1 + (last_grid[0] - 1) * s), round(1 + (last_grid[1] - 1) * s)) for s in steps)
    return ScaleSchedule(aspect_ratio=aspect_ratio, grids=grids, frame=last_grid)


def denser(schedule: ScaleSchedule) -> ScaleSchedule:
    """Return the schedule with added grids, as tokenizers are trained (repository BitVAE).

    A square of the 1024 class gets the sides 1, 2, ..., 16, 20, ..., 32, 40, ..., 64, smaller classes the beginning of
    that list. In other schedules the added grids divide the distance of two neighbours as these sides divide the
    distance of squares of the same areas. All grids of the schedule stay, and so does its frame.
    """
    grids = list(schedule.grids[:1])
    for (top, left), (bottom, right) in pairwise(schedule.grids):
        small, large = (top * left) ** 0.5, (bottom * right) ** 0.5
        sides = [n for n in range(math.floor(small) + 1, math.ceil(large)) if _is_dense(n)]
        for share in ((n - small) / (large - small) for n in sides):
            grid = round(top + share * (bottom - top)), round(left + share * (right - left))
            if grid not in (grids[-1], (bottom, right)):
                grids.append(grid)
        grids.append((bottom, right))
    return schedule.replace(grids=tuple(grids))


def _is_dense(side: int) -> bool:
    """Return whether the published training has this side: steps of 1 up to 16, of 4 up to 32, then of 8."""
    return side % (1 if side <= 16 else 4 if side <= 32 else 8) == 0


MAX_SIDE = 1024
"""Largest side of a square picture in tokens; the largest published grid has 111."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution(Config):
    """Schedules of all aspect ratios: a published size, or grid sides for small pictures. Exactly one is set.

    Attributes:
        size: Published size.
        sides: Grid sides of a square picture, coarse to fine. Another ratio r gets grids of about the same area, rows
            n * sqrt(r) and columns n / sqrt(r), rounded and at least 1.
        dense: Whether to add the grids that only the training of a tokenizer has (``denser``); pictures keep their
            sizes.

    Example:
        >>> Resolution(sides=(1, 2, 4)).schedule(2.0).grids
        ((1, 1), (3, 1), (6, 3))
        >>> Resolution(size="256").schedule(1.0).num_scales
        7
    """

    later: ClassVar[frozenset[str]] = frozenset({"dense"})

    size: Size | None = None
    sides: tuple[int, ...] | None = None
    dense: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) == (self.sides is None):
            raise ValueError("Resolution: expected either a published size or a list of sides, got both or neither")
        if self.sides is not None and (
            not 0 < len(self.sides) <= MAX_SIDE
            or not 1 <= min(self.sides) <= max(self.sides) <= MAX_SIDE
            or list(self.sides) != sorted(self.sides)
        ):
            raise ValueError(
                f"Resolution.sides: expected sides from 1 to {MAX_SIDE}, from coarse to fine, got {self.sides!s:.80}"
            )

    def schedule(self, aspect_ratio: float) -> ScaleSchedule:
        """Return the schedule of one aspect ratio (height / width).

        Raises:
            ValueError: No picture can have the ratio, or it is not one of the fifteen of a published size.
        """
        check_aspect_ratio(aspect_ratio)
        sparse = self._sparse(aspect_ratio)
        return denser(sparse) if self.dense else sparse

    def _sparse(self, aspect_ratio: float) -> ScaleSchedule:
        if self.size is not None:
            return published_schedule(aspect_ratio, self.size)
        assert self.sides is not None
        root = aspect_ratio**0.5
        grids = tuple((max(1, round(n * root)), max(1, round(n / root))) for n in self.sides)
        return ScaleSchedule(aspect_ratio=aspect_ratio, grids=grids, frame=grids[-1])


def nearest_aspect_ratio(height: float, width: float, among: Sequence[float] = ASPECT_RATIOS) -> float:
    """Return the ratio in ``among`` nearest to height / width; the first of equally near ones.

    Like the reference this compares the ratios, not their logarithms (repository dynamic_resolution.py).

    Example:
        >>> nearest_aspect_ratio(768, 1024)
        0.75
    """
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"expected a positive height and width, got {height} x {width}")
    return min(among, key=lambda ratio: abs(height / width - ratio))
