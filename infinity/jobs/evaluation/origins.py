"""Notes on scores: whose pictures they are about, and whether they were measured on training data."""

from __future__ import annotations

from collections.abc import Mapping

from infinity.data.dataset.manifest import Split
from infinity.evaluation.score import Score

_FIRST_PARTS = {"hps": "hps_v2", "hps3": "hps_v3"}
"""How metrics begin, by the field of their benchmark; those of all others begin with the field's name."""


def with_origin(score: Score, origins: Mapping[str, str]) -> Score:
    """Return the score, with a note where its pictures were drawn elsewhere."""
    origin = origin_of(score.metric, origins)
    if origin is None:
        return score
    return score.replace(note=f"{origin}; {score.note}" if score.note else origin)


def origin_of(metric: str, origins: Mapping[str, str]) -> str | None:
    """Return whose pictures a metric is about; None for pictures of the model."""
    return next((origin for name, origin in origins.items() if is_of(metric, name)), None)


def is_of(metric: str, field: str) -> bool:
    """Return whether a metric is one of the benchmark that a field of the spec names.

    Example:
        >>> is_of("hps_v3.overall", "hps3"), is_of("hps_v3.overall", "hps"), is_of("judge_dsg.overall", "judge")
        (True, False, True)
    """
    return metric.startswith(_FIRST_PARTS.get(field, field))


def with_split(score: Score, split: Split) -> Score:
    """Return the score, with a note where it was measured on training data."""
    if split == "validation" or score.value is None:
        return score
    note = "measured on the training split"
    return score.replace(note=f"{note}; {score.note}" if score.note else note)
