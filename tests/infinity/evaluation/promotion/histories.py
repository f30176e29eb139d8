"""Records of a family as tests write them."""

from __future__ import annotations

from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.score import Score


def score(metric: str, value: float | None, *, protocol: str = "p/1", unit: str = "share") -> Score:
    if value is None:
        return Score.not_measured(metric, unit, protocol=protocol, reason="no pictures")
    return Score(metric=metric, value=value, unit=unit, n=100, protocol=protocol)


def record(number: int, digest: str, *scores: Score, action: str = "promote", back: tuple[str, ...] = ()) -> Champion:
    """Record ``number`` of the family "f"; ``back`` are the models that a rollback takes back."""
    return Champion(
        family="f", number=number, parent=number - 1, action=action, model=f"/{digest}", model_digest=digest,  # type: ignore[arg-type]
        evaluation=None, scores=scores, why="w", who="a@b", when="2026", token="t", set_aside=back,
    )  # fmt: skip
