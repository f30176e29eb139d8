"""Which part of a picture is trained on: its centre or a random part, as it is or mirrored.

What is drawn for a picture follows from the key of the plan, its row and its visit: not from the batch, the rank or the
worker that it falls to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from infinity.config import Config
from infinity.data.images.fitting import CENTRE, Placement
from infinity.data.loading.draws import key_of, uniform_at
from infinity.ranges import Share

Crop = Literal["centre", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig(Config):
    """Settings of crop and mirroring. A picture is always scaled until it just covers its batch's size.

    Attributes:
        crop: Part of the longer side that is kept: the centre, as for the transformer, or a random part.
        flip: Probability that a picture is mirrored. Mirrored pictures contradict captions that say left or right, and
            letters, so it is 0 unless asked for.
    """

    crop: Crop = "centre"
    flip: Share = 0.0

    @property
    def changes_nothing(self) -> bool:
        """True where a picture looks the same at every visit."""
        return self.crop == "centre" and self.flip == 0.0

    def place(self, key: int, rows: Sequence[int], visits: Sequence[int]) -> list[Placement]:
        """Return the random placement of every picture of a batch."""
        if self.changes_nothing:
            return [CENTRE] * len(rows)
        random = np.array(
            [uniform_at(key_of(key, "crop", r, v), np.arange(3)) for r, v in zip(rows, visits, strict=True)]
        )
        if self.crop == "centre":
            random[:, :2] = 0.5
        return [Placement(float(down), float(across), bool(flip < self.flip)) for down, across, flip in random]
