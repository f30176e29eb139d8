"""T2I-CompBench by the score files of its own scripts, about pictures that were drawn elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infinity.config import Config
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.bootstrap import stratified_interval
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import (
    Judge,
    JudgedPrompts,
    PictureFolder,
    PromptItem,
    PromptSample,
    judge_each,
)
from infinity.evaluation.prompts.found import place_of
from infinity.evaluation.prompts.lists import describe
from infinity.evaluation.prompts.rewriting import Rewriter
from infinity.evaluation.score import Score, slug
from infinity.evaluation.t2i_compbench.score_files import SCORERS, read_score_files

RULES = "t2i-compbench/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class T2iCompbenchBenchmark(Config):
    """T2I-CompBench (arXiv:2307.06350), as its own scripts scored pictures.

    Attributes:
        pictures: Folder with ``samples/<prompt>_<number>.png`` and the folders that the scripts wrote beside it, such
            as ``annotation_blip/vqa_result.json``; or a folder of such folders, one per category.
    """

    pictures: PictureFolder | None = None

    @property
    def name(self) -> str:
        """First part of the names of metrics."""
        return "t2i_compbench"

    @property
    def pictures_per_prompt(self) -> int:
        """Pictures of a prompt in the benchmark, by which the work is split; a folder may have any number."""
        return 10

    @property
    def rewriter(self) -> Rewriter | None:
        """No rewriter: the pictures are there."""
        return None

    def items(self) -> tuple[PromptItem, ...]:
        """Return the prompts of every category with the scores of their pictures, by script and place in its file.

        Raises:
            ValueError: No pictures are named, or the folder has no score files that fit its pictures.
            StorageError: A file cannot be read.
        """
        if self.pictures is None or self.pictures.is_table:
            raise ValueError(
                "T2iCompbenchBenchmark.pictures: expected a folder of pictures with the score files of "
                f"T2I-CompBench's scripts, got {'a table' if self.pictures else 'none'}; name it with --pictures"
            )
        found: dict[str, dict[str, Any]] = {}
        for file in read_score_files(self.pictures):
            for place, (picture, value) in enumerate(zip(file.pictures, file.values, strict=True)):
                name = f"{file.category}/{picture.prompt}" if file.category else picture.prompt
                about = found.setdefault(name, {"category": file.category, "paths": [], "scores": {}})
                if picture.path not in about["paths"]:
                    about["paths"].append(picture.path)
                about["scores"].setdefault(file.scorer, []).append([place, value])
        return tuple(
            PromptItem(id=name, prompt=name.removeprefix(f"{about['category']}/"), about=about)
            for name, about in found.items()
        )

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return the items with their pictures."""
        files = folder.files()
        return [
            PromptSample(
                item=item, drawn=item.prompt, size_px=folder.size_px,
                places=tuple(place_of(folder, files[path]) for path in item.about["paths"]),
            )
            for item in items
        ]  # fmt: skip

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that a verdict depends on: none, since the scores are part of the items."""
        return {"rules": RULES}

    def judge(self, networks: Networks) -> Judge:
        """Return the judge whose records hold the scores that the scripts gave to an item's pictures."""
        return judge_each(lambda sample, pictures: {"scores": sample.item.about["scores"]})

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``t2i_compbench.<category>.<script>`` for every score file: the mean over all pictures."""
        note = results.missing_note()
        groups: dict[tuple[str, str], list[tuple[PromptItem, list[tuple[int, float]]]]] = {}
        for sample, record in results:
            for scorer, values in record.get("scores", {}).items():
                groups.setdefault((sample.item.about["category"], scorer), []).append((sample.item, values))
        metrics = {key: ".".join((self.name, *(slug(part) for part in key if part))) for key in groups}
        if twice := [metric for metric, number in Counter(metrics.values()).items() if number > 1]:
            raise ValueError(f"{twice[0]}: expected categories with names of their own, found two; rename a folder")
        if not groups:
            score = Score.not_measured(f"{self.name}.overall", "share", protocol=RULES, reason=note or "no picture")
            return BenchmarkResult(scores=(score,))
        return BenchmarkResult(
            scores=tuple(_score(metrics[key], key[1], found, note) for key, found in groups.items()),
            records={f"{self.name}_scores.jsonl": results.lines()},
            items=dict(_per_item(metrics, groups)),
        )


_Found = Sequence[tuple[PromptItem, Sequence[tuple[int, float]]]]


def _score(metric: str, scorer: str, found: _Found, note: str) -> Score:
    # In the order of the file, so that the last digit is that of the public scripts.
    values = [value for _, value in sorted((place, value) for _, pairs in found for place, value in pairs)]
    sums = np.array([sum(value for _, value in pairs) for _, pairs in found], np.float64)
    numbers = np.array([len(pairs) for _, pairs in found], np.float64)
    each = ", ".join(str(int(number)) for number in sorted(set(numbers)))
    protocol = (
        f"{RULES}: {scorer} as the benchmark's own script wrote it, mean over pictures; "
        f"{describe([item for item, _ in found])}, {each} pictures each"
    )
    mean, unit, interval = (
        sum(values) / len(values),
        dict(SCORERS.values())[scorer],
        stratified_interval([(sums, numbers)]),
    )
    return Score.resampled(metric, mean, unit, len(values), interval, protocol=protocol, note=note)


def _per_item(
    metrics: Mapping[tuple[str, str], str], groups: Mapping[tuple[str, str], _Found]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the values of prompts by metric, where their plain mean is the score."""
    for key, found in groups.items():
        if len({len(pairs) for _, pairs in found}) == 1:
            yield metrics[key], {item.id: sum(v for _, v in pairs) / len(pairs) for item, pairs in found}
