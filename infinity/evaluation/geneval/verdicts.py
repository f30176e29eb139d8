"""From pictures to verdicts to the scores of GenEval's six tasks; for official prompts and drawn scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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


def summarize_verdicts(
    results: JudgedPrompts,
    name: str,
    *,
    protocol: str,
    num_shown: int,
    sheets: str,
    records: str,
    best_of: BestOf | None = None,
) -> BenchmarkResult:
    """Return scores, a sheet of pictures per task, and the lines of all verdicts of GenEval prompts.

    Args:
        results: Records of a `GenevalJudge`.
        name: First part of the names of the metrics.
        protocol: How the scores were measured.
        sheets: First part of the names of the sheets, which end in the task.
        records: Name of the file of verdicts.
        best_of: Search among the pictures of a prompt; None counts all.

    Raises:
        PictureError: A picture for a sheet cannot be read.
    """
    if best_of is not None:
        results, protocol = best_of.pick(results), protocol + best_of.words
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
