"""Notes on scores: whose pictures they are about, and on which split they were measured."""

from __future__ import annotations

from collections.abc import Mapping

from infinity.data.dataset.manifest import Split
from infinity.evaluation.score import Score


def with_origin(score: Score, origins: Mapping[str, str]) -> Score:
    """Return the score, with a note where its pictures were drawn elsewhere."""
    origin = origin_of(score.metric, origins)
    if origin is None:
        return score
    return score.replace(note=f"{origin}; {score.note}" if score.note else origin)


def origin_of(metric: str, origins: Mapping[str, str]) -> str | None:
    """Return whose pictures a metric is about; None for pictures of the model."""
    return next((origin for name, origin in origins.items() if metric.startswith(name)), None)


def with_split(score: Score, split: Split) -> Score:
    """Return the score, with a note where it was measured on training data."""
    if split == "validation" or score.value is None:
        return score
    note = "measured on the training split"
    return score.replace(note=f"{note}; {score.note}" if score.note else note)
