"""What a spec says about known faults, compared with the recipe's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from infinity.diagnosis.findings import LikelyCause

RATE_FACTOR = 3.0
"""Ratio of learning rates from which a difference is a fault."""
SHUFFLED_SHARE = 8
"""A shuffle's window must hold at least this many batches."""

Fields = Mapping[str, Any]


def setting_findings(spec: Fields, recipe: Fields) -> list[LikelyCause]:
    """Return the findings of all comparisons.

    Args:
        spec: Fields of the run's spec as JSON.
        recipe: Fields of the recipe's spec.
    """
    return [finding for look in _LOOKS if (finding := look(spec, recipe)) is not None]


def _rate(spec: Fields, recipe: Fields) -> LikelyCause | None:
    mine, usual = (each["optimizer"]["learning_rate"] for each in (spec, recipe))
    evidence = f"optimizer.learning_rate is {mine:g}, the recipe has {usual:g}"
    if mine > RATE_FACTOR * usual:
        return LikelyCause(cause="learning rate too high", certainty=0.9, evidence=evidence)
    if mine * RATE_FACTOR < usual:
        return LikelyCause(cause="learning rate too low", certainty=0.9, evidence=evidence)
    return None


def _condition_drop(spec: Fields, recipe: Fields) -> LikelyCause | None:
    if recipe["model"].get("condition_drop", 0) > 0 and spec["model"].get("condition_drop") == 0:
        usual = recipe["model"]["condition_drop"]
        return LikelyCause(
            cause="guidance trained away",
            certainty=0.95,
            evidence=f"model.condition_drop is 0, so that no unconditional branch is trained; the recipe has {usual:g}",
        )
    return None


def _self_correction(spec: Fields, recipe: Fields) -> LikelyCause | None:
    if recipe.get("self_correction", 0) > 0 and (spec.get("self_correction") == 0 or spec.get("flips_only")):
        how = "flips the inputs only" if spec.get("flips_only") else "is 0"
        return LikelyCause(
            cause="self-correction off",
            certainty=0.9,
            evidence=f"self_correction {how}, the recipe has {recipe['self_correction']:g}",
        )
    return None


def _resolution(spec: Fields, recipe: Fields) -> LikelyCause | None:
    if spec["resolution"] != recipe["resolution"]:
        return LikelyCause(
            cause="wrong resolution table",
            certainty=0.85,
            evidence=f"resolution is {_short(spec['resolution'])}, the recipe has {_short(recipe['resolution'])}",
        )
    return None


def _text(spec: Fields, recipe: Fields) -> LikelyCause | None:
    mine, usual = spec.get("text"), recipe.get("text")
    if mine != usual:
        return LikelyCause(
            cause="text features of another encoder",
            certainty=0.8,
            evidence=f"text is {_short(mine)}, the recipe has {_short(usual)}",
        )
    return None


def _order(spec: Fields, recipe: Fields) -> LikelyCause | None:
    window, batch = spec["order"]["window_pictures"], spec["loop"]["batch_size"]
    if window < SHUFFLED_SHARE * batch and window < recipe["order"]["window_pictures"]:
        return LikelyCause(
            cause="data order not shuffled",
            certainty=0.9,
            evidence=f"order.window_pictures is {window}, less than {SHUFFLED_SHARE} batches of {batch}",
        )
    return None


def _adapters(spec: Fields, recipe: Fields) -> LikelyCause | None:
    if spec.get("adapters") is not None and recipe.get("adapters") is None:
        return LikelyCause(
            cause="frozen weights",
            certainty=0.8,
            evidence="adapters are trained and all other weights are frozen, the recipe trains all weights",
        )
    return None


def _short(value: Any) -> str:
    return f"{value!s:.120}"


_LOOKS: tuple[Callable[[Fields, Fields], LikelyCause | None], ...] = (
    _rate, _condition_drop, _self_correction, _resolution, _text, _order, _adapters,
)  # fmt: skip
