"""Replay of recorded CLIP scores out of embeddings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from infinity.evaluation.preference.clip_score import clip_scores, mean_clip_score
from tests.parity.arrays import arrays_beside
from tests.parity.scores.evaluation import Compare, Figures

FLOAT32 = {"absolute": 2e-5, "relative": 1e-6}
"""Scores reach 100, and the recorded ones are sums in float32."""


def clip_score_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file with the scores of pairs."""
    if not isinstance(data, dict) or "per_pair_unclamped" not in data:
        return None
    return lambda figures: _compare(path, data, figures)


def _compare(path: Path, data: dict[str, Any], figures: Figures) -> None:
    arrays = arrays_beside(path, "image_embeds", "text_embeds")
    scores = clip_scores(arrays["image_embeds"], arrays["text_embeds"])
    figures.equal("pairs", len(scores), len(data["per_pair_unclamped"]))
    for number, (found, expected) in enumerate(zip(scores, data["per_pair_unclamped"], strict=True)):
        figures.close(f"per_pair_unclamped.{number}", float(found), expected, **FLOAT32)
    for name, expected in data.items():
        if name in ("per_pair_unclamped", "versions"):
            continue
        alone = re.fullmatch(r"clip_score_functional_only_pair_(\d+)", name)
        if alone:
            found = mean_clip_score(scores[[int(alone[1])]])
        elif name == "clip_score_functional" or re.fullmatch(r"clip_score_metric_batches_of_\d+", name):
            found = mean_clip_score(np.asarray(scores))
        else:
            figures.failures.append(f"{name}: no figure that is known")
            continue
        figures.close(name, found, expected, **FLOAT32)
    figures.information["pairs"] = len(scores)
