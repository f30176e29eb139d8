"""Verdicts that add up: counts of right pictures by prompt, and the scores of the six tasks."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from infinity.evaluation.bootstrap import stratified_interval
from infinity.evaluation.geneval.scoring import TASKS, GenevalPrompt, Verdict
from infinity.evaluation.score import Z_95, Score, join_notes, wilson_interval


@dataclass(frozen=True, slots=True)
class PromptCount:
    """Number of pictures of one prompt that were judged, and number of right ones."""

    task: str
    correct: int
    total: int


@dataclass(frozen=True, slots=True)
class GenevalState:
    """Counts by prompt; states of disjoint pictures add up to the state of all, in any grouping.

    Prompts with the same metadata are one prompt, as in the public scorer.
    """

    prompts: Mapping[str, PromptCount] = field(default_factory=dict)

    @classmethod
    def of(cls, judged: Iterable[tuple[GenevalPrompt, Verdict]]) -> GenevalState:
        """Return the state of judged pictures."""
        prompts: dict[str, PromptCount] = {}
        for prompt, verdict in judged:
            key = json.dumps(prompt.to_metadata())
            old = prompts.get(key, PromptCount(prompt.task, 0, 0))
            prompts[key] = PromptCount(prompt.task, old.correct + verdict.correct, old.total + 1)
        return cls(prompts)

    def __add__(self, other: GenevalState) -> GenevalState:
        prompts = dict(self.prompts)
        for key, count in other.prompts.items():
            old = prompts.get(key, PromptCount(count.task, 0, 0))
            prompts[key] = PromptCount(count.task, old.correct + count.correct, old.total + count.total)
        return GenevalState(prompts)

    @property
    def tasks(self) -> dict[str, tuple[int, int]]:
        """(right, all) pictures of every task that has any, official tasks first, in the paper's order."""
        found: dict[str, tuple[int, int]] = {}
        for count in self.prompts.values():
            correct, total = found.get(count.task, (0, 0))
            found[count.task] = (correct + count.correct, total + count.total)
        order = [*(task for task in TASKS if task in found), *sorted(set(found) - set(TASKS))]
        return {task: found[task] for task in order}

    @property
    def num_pictures(self) -> int:
        return sum(count.total for count in self.prompts.values())

    @property
    def num_correct(self) -> int:
        return sum(count.correct for count in self.prompts.values())

    @property
    def overall(self) -> float:
        """Plain mean over the tasks present of their shares of right pictures.

        Raises:
            ValueError: No picture was judged.
        """
        if not self.prompts:
            raise ValueError("GenEval: expected at least one judged picture, got none")
        shares = [correct / total for correct, total in self.tasks.values()]
        return sum(shares) / len(shares)

    @property
    def share_of_prompts(self) -> float:
        """Share of prompts with at least one right picture."""
        if not self.prompts:
            raise ValueError("GenEval: expected at least one judged picture, got none")
        return sum(count.correct > 0 for count in self.prompts.values()) / len(self.prompts)

    def scores(self, name: str, *, protocol: str, note: str = "") -> tuple[Score, ...]:
        """Return ``<name>.overall``, ``<name>.<task>`` for every task present, and the number ``<name>.prompts``.

        Intervals come from resampling prompts, since pictures of one prompt are right and wrong together. The notes
        also give the interval that takes pictures as independent (Wilson's), and for the overall score the normal one.
        Where all prompts of a task agree, resampling says nothing, and Wilson's interval over prompts is used.

        Args:
            name: First part of the names of the metrics.
            protocol: How the scores were measured.
            note: Note of every score, such as missing pictures.
        """
        share = self.overall
        resampled = stratified_interval([self._clusters(task) for task in self.tasks])
        normal = self._overall_interval()
        low, high = resampled or (normal if normal[0] is None else self._mean_of_wilson())
        about = f"plain mean of {len(self.tasks)} tasks; interval from resampling prompts within tasks"
        if normal[0] is not None:
            about += f", by the normal formula {normal[0]:.4f} to {normal[1]:.4f}"
        overall = Score(
            metric=f"{name}.overall", value=share, unit="share", n=self.num_pictures, protocol=protocol,
            low=low, high=high, note=join_notes(note, about),
        )  # fmt: skip
        tasks = (self._task_score(f"{name}.{task}", task, protocol=protocol, note=note) for task in self.tasks)
        prompts = Score(
            metric=f"{name}.prompts", value=float(len(self.prompts)), unit="prompts", n=self.num_pictures,
            protocol=protocol, note=f"{self.share_of_prompts:.1%} have at least one right picture",
        )  # fmt: skip
        return (overall, *tasks, prompts)

    def _task_score(self, metric: str, task: str, *, protocol: str, note: str) -> Score:
        correct, total = self.tasks[task]
        wilson = wilson_interval(correct, total)
        values, weights = self._clusters(task)
        resampled = stratified_interval([(values, weights)])
        if resampled is None:
            # All prompts agree: as many successes as prompts, or a share of them.
            resampled = wilson_interval(round(correct / total * len(values)), len(values))
            about = "interval of Wilson over prompts, which all agree"
        else:
            about = "interval from resampling prompts"
        about += f"; of Wilson over pictures {wilson[0]:.4f} to {wilson[1]:.4f}"
        return Score(
            metric=metric, value=correct / total, unit="share", n=total, protocol=protocol,
            low=resampled[0], high=resampled[1], note=join_notes(note, about),
        )  # fmt: skip

    def _mean_of_wilson(self) -> tuple[float, float]:
        """Return the mean over tasks of Wilson's ends over prompts, which is wider than any interval of the mean."""
        sizes = Counter(count.task for count in self.prompts.values())
        ends = [wilson_interval(round(c / n * sizes[task]), sizes[task]) for task, (c, n) in self.tasks.items()]
        return tuple(math.fsum(side) / len(ends) for side in zip(*ends, strict=True))  # type: ignore[return-value]

    def _clusters(self, task: str) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        counts = [(count.correct, count.total) for count in self.prompts.values() if count.task == task]
        table = np.array(counts, np.float64)
        return table[:, 0], table[:, 1]

    def items(self, name: str, ids: Mapping[str, str]) -> dict[str, dict[str, float]]:
        """Return values of prompts by metric, whose plain mean is the score that `scores` reports.

        A prompt's value for ``<name>.<task>`` is its share of right pictures; where prompts have different numbers of

        pictures, it is the right pictures over the mean number. The value for ``<name>.overall`` is the same, weighted
        by the inverse of the number of prompts in the task.

        Args:
            name: First part of the names of the metrics.
            ids: Id of every prompt, by the key of ``prompts``.
        """
        sizes = Counter(count.task for count in self.prompts.values())
        items: dict[str, dict[str, float]] = {f"{name}.overall": {}, **{f"{name}.{task}": {} for task in self.tasks}}
        for key, count in self.prompts.items():
            size = sizes[count.task]
            share, weight = count.correct * size / self.tasks[count.task][1], len(self.prompts) / (len(sizes) * size)
            items[f"{name}.overall"][ids[key]] = weight * share
            items[f"{name}.{count.task}"][ids[key]] = share
        return items

    def _overall_interval(self) -> tuple[float | None, float | None]:
        """Return the normal 95 % interval, clipped to [0, 1]; None if a task has a single prompt (no spread)."""
        variance = 0.0
        for task in self.tasks:
            shares = [count.correct / count.total for count in self.prompts.values() if count.task == task]
            if len(shares) < 2:
                return None, None
            mean = math.fsum(shares) / len(shares)  # exact sums: the order of merging changes nothing
            variance += math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1) / len(shares)
        half = Z_95 * math.sqrt(variance) / len(self.tasks)
        return max(0.0, self.overall - half), min(1.0, self.overall + half)
