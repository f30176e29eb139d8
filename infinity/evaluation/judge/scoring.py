"""Scores of pictures and prompts from those of their questions: DSG's dependencies, TIFA's and Soft-TIFA's means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from infinity.evaluation.bootstrap import resampled_interval
from infinity.evaluation.judge.questions import JudgeQuestion

Mean = Literal["arithmetic", "geometric"]


def after_dependencies(questions: Sequence[JudgeQuestion], scores: Sequence[float]) -> list[float]:
    """Return scores with 0 for every question that depends on one whose own score is below 0.5 (DSG, arXiv:2310.18235).

    As in the public script, where scores are 0 or 1, the parent's score is that before dependencies.

    Example:
        >>> dog, brown = JudgeQuestion(text="a dog?"), JudgeQuestion(text="brown?", parents=(0,))
        >>> after_dependencies([dog, brown], [0.0, 1.0])
        [0.0, 0.0]
    """
    return [
        0.0 if any(scores[parent] < 0.5 for parent in question.parents) else score
        for question, score in zip(questions, scores, strict=True)
    ]


def picture_score(questions: Sequence[JudgeQuestion], scores: Sequence[float], mean: Mean) -> float:
    """Return the weighted mean of the scores of a picture's questions; a geometric mean is 0 where one score is 0.

    Example:
        >>> two = [JudgeQuestion(text="a?"), JudgeQuestion(text="b?")]
        >>> picture_score(two, [0.25, 1.0], "arithmetic"), picture_score(two, [0.25, 1.0], "geometric")
        (0.625, 0.5)
    """
    weights = [question.weight for question in questions]
    if mean == "arithmetic":
        return sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
    if min(scores) <= 0:
        return 0.0
    logs = np.log(np.array(scores, np.float64))
    if len(set(weights)) == 1:
        return float(np.exp(logs.mean()))
    return float(np.exp(np.average(logs, weights=weights)))


class Pools:
    """Sums of question scores by prompt and group, from which pooled accuracies and their intervals follow.

    Args:
        groups: Names of the groups, each with its dimension.
    """

    def __init__(self, groups: Mapping[str, str]) -> None:
        self.groups = dict(groups)
        self._places = {name: place for place, name in enumerate(self.groups)}
        self._sums: list[np.ndarray] = []

    def add(self, questions: Sequence[JudgeQuestion], pictures: Sequence[Sequence[float]]) -> None:
        """Add the scores of all pictures of one prompt."""
        found = np.zeros((2, len(self._places)))
        for scores in pictures:
            for question, score in zip(questions, scores, strict=True):
                place = self._places.get(question.group)
                if place is not None:
                    found[:, place] += score, 1
        self._sums.append(found)

    def group(self, name: str) -> tuple[float, int, tuple[float, float] | None]:
        """Return the pooled mean of a group, its number of answers, and its interval."""
        return self._pooled([name])

    def dimension(self, name: str) -> tuple[float, int, tuple[float, float] | None]:
        """Return the pooled mean of a dimension, its number of answers, and its interval."""
        return self._pooled([group for group, dimension in self.groups.items() if dimension == name])

    def overall(self, *, pooled: bool) -> tuple[float, tuple[float, float] | None]:
        """Return the mean over dimensions and its interval from resampling prompts.

        Args:
            pooled: Whether a dimension pools its questions; otherwise it is the mean of its groups.
        """
        sums = np.stack(self._sums)
        value = float(self._overall(sums.sum(axis=0)[None], pooled)[0])
        return value, resampled_interval(sums, lambda totals: self._overall(totals, pooled))

    def _overall(self, totals: np.ndarray, pooled: bool) -> np.ndarray:
        """Return the mean over dimensions per replicate; groups without answers in a replicate do not count."""
        by_dimension = []
        for dimension in dict.fromkeys(self.groups.values()):
            places = [self._places[group] for group, other in self.groups.items() if other == dimension]
            chosen = totals[:, :, places]
            chosen = chosen.sum(axis=2, keepdims=True) if pooled else chosen
            by_dimension.append(_mean_of_present(_ratio(chosen)))
        return _mean_of_present(np.stack(by_dimension, axis=1))

    def _pooled(self, names: Sequence[str]) -> tuple[float, int, tuple[float, float] | None]:
        sums = np.stack(self._sums)[:, :, [self._places[name] for name in names]].sum(axis=2, keepdims=True)
        total = sums.sum(axis=0)
        present = sums[sums[:, 1, 0] > 0]
        interval = resampled_interval(present, lambda totals: _ratio(totals)[:, 0])
        return float(total[0, 0] / total[1, 0]), int(total[1, 0]), interval


def _ratio(totals: np.ndarray) -> np.ndarray:
    """Return sums over numbers per replicate and group; NaN where there is no answer."""
    found = np.full(totals[:, 0].shape, np.nan)
    np.divide(totals[:, 0], totals[:, 1], out=found, where=totals[:, 1] > 0)
    return found


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    present = ~np.isnan(values)
    number = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    found = np.full(total.shape, np.nan)
    np.divide(total, number, out=found, where=number > 0)
    return found
