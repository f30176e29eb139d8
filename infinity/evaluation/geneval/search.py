"""Search at drawing time: of n pictures of a prompt, the one that a scorer likes best counts (best of n)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from infinity.config import Config
from infinity.evaluation.geneval.scoring import Detections, GenevalConfig, GenevalPrompt, keep
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PromptSample, Record
from infinity.ranges import Count


@dataclass(frozen=True, kw_only=True, slots=True)
class BestOf(Config):
    """Best of n.

    Attributes:
        candidates: Number n of pictures from which one is taken: the first n of a prompt, then the next n, and so on.
        scorer: "verdict" is the benchmark's own verdict, an ideal scorer and so an upper bound. "objects" counts the
            prompt's objects that are there, but sees neither colour nor position.
    """

    candidates: Count
    scorer: Literal["verdict", "objects"] = "verdict"

    def check(self, pictures_per_prompt: int, where: str) -> None:
        """Refuse a number of pictures that cannot be divided.

        Raises:
            ValueError: The candidates do not divide the pictures of a prompt.
        """
        if pictures_per_prompt % self.candidates:
            raise ValueError(
                f"{where}: expected pictures_per_prompt to be a multiple of {self.candidates}, the candidates of "
                f"best_of, got {pictures_per_prompt}"
            )

    def settings(self) -> dict[str, Any]:
        """Return what a verdict depends on: the scorer, where it is not the verdict itself."""
        return {} if self.scorer == "verdict" else {"scorer": f"{self.scorer}/1"}

    @property
    def words(self) -> str:
        """The search in words, for the protocol."""
        return f"; search: the best of {self.candidates} by {self.scorer}"

    def pick(self, results: JudgedPrompts) -> JudgedPrompts:
        """Return every prompt with its best pictures: the first of equal ones, a missing one only where all are."""
        found = [self._pick(sample, record) for sample, record in results]
        return JudgedPrompts(samples=tuple(s for s, _ in found), records=tuple(r for _, r in found))

    def _pick(self, sample: PromptSample, record: Record) -> tuple[PromptSample, Record]:
        entries = record["pictures"]
        groups = [range(first, first + self.candidates) for first in range(0, len(entries), self.candidates)]
        chosen = [max(group, key=lambda number: self._value(entries[number])) for group in groups]
        places = tuple(sample.places[number] for number in chosen)
        return replace(sample, places=places), {**record, "pictures": [entries[number] for number in chosen]}

    def _value(self, entry: Mapping[str, Any]) -> float:
        if "missing" in entry:
            return -1.0
        return float(entry["correct"] if self.scorer == "verdict" else entry["objects"])


def share_of_objects(prompt: GenevalPrompt, detections: Detections, config: GenevalConfig) -> float:
    """Return the share of a prompt's objects that are in the picture, whatever their colour and place, 0 to 1.

    Args:
        prompt: What the picture must show.
    """
    kept = keep(detections, counting=prompt.task == "counting", config=config)
    wanted: dict[str, int] = {}
    for entry in prompt.include:
        wanted[entry.object_class] = max(entry.count, wanted.get(entry.object_class, 0))
    there = {name: len(kept[name].boxes) if name in kept else 0 for name in wanted}
    return sum(min(there[name], count) for name, count in wanted.items()) / max(1, sum(wanted.values()))
