"""From pictures to verdicts to the scores of GenEval's six tasks; for official prompts and drawn scenes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from infinity.config import Config
from infinity.data.images.contact_sheet import compose_sheet
from infinity.evaluation.benchmark import BenchmarkResult, SheetImage, magnification
from infinity.evaluation.geneval.scoring import TASKS, Detections, GenevalConfig, GenevalPrompt, Verdict, judge
from infinity.evaluation.geneval.search import BestOf, share_of_objects
from infinity.evaluation.geneval.state import GenevalState
from infinity.evaluation.pictures.store import Picture
from infinity.evaluation.prompts.benchmark import (
    JudgedPrompts,
    MissingPicture,
    PromptSample,
    Record,
    described,
    note_of_missing,
    split_missing,
)
from infinity.evaluation.score import Score, join_notes
from infinity.ranges import Count, Natural

RIGHT, WRONG = (30, 150, 70), (205, 60, 50)
"""RGB of the frames around right and wrong pictures."""

TITLES = {
    "single_object": "Single object",
    "two_object": "Two objects",
    "counting": "Counting",
    "colors": "Colours",
    "position": "Position",
    "color_attr": "Colour attribution",
}


class Detector(Protocol):
    """Detector of objects and their colours."""

    def __call__(self, pictures: Sequence[Picture]) -> Sequence[Detections]:
        """Return everything found in every picture; colours may be computed when they are read."""
        ...


@dataclass(frozen=True, slots=True)
class GenevalJudge:
    """Judge of pictures of GenEval prompts; an item's record has one entry per picture, with the scorer's value."""

    detector: Detector
    thresholds: GenevalConfig
    best_of: BestOf | None = None

    def __call__(
        self, samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> list[Record]:
        """Detect on all pictures together, then judge one by one."""
        usable = [split_missing(found)[0] for found in pictures]
        detections = iter(self.detector([picture for found in usable for picture in found]))
        records: list[Record] = []
        for sample, found in zip(samples, pictures, strict=True):
            prompt = GenevalPrompt.from_metadata(sample.item.about)
            entries = [
                {"missing": picture.reason}
                if isinstance(picture, MissingPicture)
                else self._entry(picture, prompt, next(detections))
                for picture in found
            ]
            records.append({"pictures": entries})
        return records

    def _entry(self, picture: Picture, prompt: GenevalPrompt, found: Detections) -> Record:
        verdict = judge(prompt, found, self.thresholds)
        entry = {"size_px": list(picture.shape[:2]), "correct": verdict.correct, "reason": verdict.reason}
        if self.best_of is not None and self.best_of.scorer == "objects":
            entry["objects"] = share_of_objects(prompt, found, self.thresholds)
        return entry


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskBenchmark(Config):
    """Base of the benchmarks over GenEval's six tasks.

    Attributes:
        pictures_per_prompt: Pictures of every prompt; GenEval has 4.
        prompts_per_task: Largest number of prompts per task; None takes all. Scores of a part say so.
        num_shown: Prompts of each task on its sheet.
        best_of: Search among the pictures of a prompt; None counts all.
    """

    later: ClassVar[frozenset[str]] = frozenset({"best_of"})

    pictures_per_prompt: Count = 4
    prompts_per_task: Count | None = None
    num_shown: Natural = 8
    best_of: BestOf | None = None

    def __post_init__(self) -> None:
        if self.best_of is not None:
            self.best_of.check(self.pictures_per_prompt, type(self).__name__)

    def verdict_settings(self, rules: str, detector: Mapping[str, Any], thresholds: GenevalConfig) -> dict[str, Any]:
        """Return the settings that a verdict depends on: version of the rules, detector, thresholds and search."""
        searched = {} if self.best_of is None else self.best_of.settings()
        return {"rules": rules, "detector": detector, **thresholds.to_json(), **searched}

    def result(self, results: JudgedPrompts, name: str, *, protocol: str, sheets: str, records: str) -> BenchmarkResult:
        """Return ``<name>.overall``, ``.<task>`` and ``.prompts``; a sheet and the lines of the verdicts of every task.

        Arguments and errors are those of `summarize_verdicts`.
        """
        if self.best_of is not None:
            results, protocol = self.best_of.pick(results), protocol + self.best_of.words
        return summarize_verdicts(
            results, name, protocol=protocol, num_shown=self.num_shown, sheets=sheets, records=records
        )


def summarize_verdicts(
    results: JudgedPrompts, name: str, *, protocol: str, num_shown: int, sheets: str, records: str
) -> BenchmarkResult:
    """Return scores, a sheet of pictures per task, and the lines of all verdicts of GenEval prompts.

    Args:
        results: Records of a `GenevalJudge`.
        name: First part of the names of the metrics.
        protocol: How the scores were measured.
        num_shown: Prompts of each task on its sheet.
        sheets: First part of the names of the sheets, which end in the task.
        records: Name of the file of verdicts.

    Raises:
        PictureError: A picture for a sheet cannot be read.
    """
    judged, missing = [], []
    ids: dict[str, str] = {}
    sizes: set[tuple[int, int]] = set()
    for sample, record in results:
        prompt = GenevalPrompt.from_metadata(sample.item.about)
        ids.setdefault(json.dumps(prompt.to_metadata()), sample.item.id)
        for entry in record["pictures"]:
            if "missing" in entry:
                missing.append(f"{sample.item.id}: {entry['missing']}")
                continue
            sizes.add(tuple(entry["size_px"]))
            judged.append((prompt, Verdict(entry["correct"], entry["reason"])))
    total = len(judged) + len(missing)
    note = join_notes(note_of_missing(missing, total, "pictures"), _note_of(sizes))
    state = GenevalState.of(judged)
    if not judged:
        reason = note or "there was no picture"
        scores: tuple[Score, ...] = (Score.not_measured(f"{name}.overall", "share", protocol=protocol, reason=reason),)
    else:
        scores = state.scores(name, protocol=protocol, note=note)
    return BenchmarkResult(
        scores=scores,
        sheets={f"{sheets}.{task}": sheet for task in TASKS if (sheet := _sheet(results, task, num_shown))},
        records={records: _lines(results)},
        items=state.items(name, ids) if judged else {},
    )


def _note_of(sizes: set[tuple[int, int]]) -> str:
    listed = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
    if len(sizes) <= 1:
        return f"pictures of {listed} pixels" if sizes else ""
    return f"pictures of {len(sizes)} sizes (rows x columns): {listed}"


def _lines(results: JudgedPrompts) -> list[Record]:
    """Return one line per picture."""
    return [
        {
            **described(sample),
            "tag": sample.item.about["tag"],
            "number": number,
            "picture": None if isinstance(place, MissingPicture) else place.name,
            **entry,
        }
        for sample, record in results
        for number, (place, entry) in enumerate(zip(sample.places, record["pictures"], strict=True))
    ]


def _sheet(results: JudgedPrompts, task: str, num_shown: int) -> SheetImage | None:
    """Return a sheet with the first captions of a task whose pictures are all there, one caption per row."""
    rows = [
        (sample, record["pictures"])
        for sample, record in results
        if sample.item.about["tag"] == task and not any("missing" in entry for entry in record["pictures"])
    ][:num_shown]
    if not rows:
        return None
    pictures = [picture for sample, _ in rows for picture in split_missing(sample.pictures())[0]]
    marks = [RIGHT if entry["correct"] else WRONG for _, entries in rows for entry in entries]
    return SheetImage(
        png=compose_sheet(pictures, len(rows[0][1]), gap_px=3, enlarge=magnification(pictures[0]), marks=marks),
        title=f"{TITLES[task]}: one caption a row; a green frame marks a right picture, a red one a wrong picture",
        captions=tuple(
            f"{sample.item.prompt} ({sum(entry['correct'] for entry in entries)} of {len(entries)} right)"
            for sample, entries in rows
        ),
    )
