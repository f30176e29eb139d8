"""Add a filter to the data stage: a score per picture, and a threshold on it. Here: drop pictures without colour.

    python examples/add_a_filter.py PICTURES

Scores are kept beside the data set, so that another threshold opens no picture again. Dropped pictures are counted
under the reason, with examples on the data set's page.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infinity import BuildDatasetSpec, run_spec
from infinity.config import Config
from infinity.data.curation.filters import FilterConfig, ScoreRule
from infinity.jobs.cluster.connection import connect
from infinity.jobs.dataset.build import fingerprint


@dataclass(frozen=True, kw_only=True, slots=True)
class Colourfulness(Config):
    """The score: mean difference between the largest and the smallest channel of a pixel, 0 (grey) to 255."""

    kind: str = "colourfulness"
    score: str = "colourfulness"

    def weights_digest(self) -> str:
        """Name what the score follows from; change the text when the formula changes."""
        return "mean channel range 1"

    def load(self, device: str):
        """Return the scorer: pictures (height, width, 3) of 8 bits and captions in, a number per picture out."""
        return colourfulness


def colourfulness(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Score some pictures."""
    return np.array([np.ptp(picture.astype(np.float32), axis=-1).mean() for picture in pictures], np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class MyFilters(FilterConfig):
    """The project's filters and one more."""

    min_colourfulness: float | None = None

    def rules(self) -> tuple[ScoreRule, ...]:
        """Ask the new rule last."""
        own = ScoreRule(
            reason="no_colour", score="colourfulness", minimum=self.min_colourfulness, score_range=(0.0, 255.0)
        )
        return (*FilterConfig.rules(self), own)


def main(pictures: str, output: str = "runs/colourful", minimum: float = 8.0) -> dict[str, int]:
    """Build a data set of the colourful pictures and return how many were read, kept and dropped for which reason."""
    spec = BuildDatasetSpec(
        output=output,
        source=pictures,
        fingerprint=fingerprint(pictures),
        scorers=(Colourfulness(),),
        filters=MyFilters(min_colourfulness=minimum),
    )
    with connect():
        report = run_spec(spec)
    print(report.summary.counts)
    return report.summary.counts


if __name__ == "__main__":
    main(sys.argv[1])
