"""GenEval: the official prompt file, four pictures per prompt, shares of right pictures in six tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.geneval.coco_detector import CocoDetectorConfig
from infinity.evaluation.geneval.scenes import SceneDetector
from infinity.evaluation.geneval.scoring import GenevalConfig, GenevalPrompt
from infinity.evaluation.geneval.verdicts import GenevalJudge, TaskBenchmark
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import (
    JudgedPrompts,
    PictureFolder,
    PromptItem,
    PromptSample,
    spread,
)
from infinity.evaluation.prompts.found import in_folders_or_numbered, locate
from infinity.evaluation.prompts.rewriting import Rewriter, describe
from infinity.evaluation.score import join_notes
from infinity.storage.lines import json_objects
from infinity.storage.pinned import PinnedFile

OFFICIAL_PROMPTS = PinnedFile(
    uri="https://raw.githubusercontent.com/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/"
    "prompts/evaluation_metadata.jsonl",
    sha256="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
)
NUM_OFFICIAL_PROMPTS = 553

MORE_PICTURES = "have more pictures than the protocol says"
"""Words in the note of a score over more pictures per prompt than were asked for; GenEval's scorer takes all."""

_NAMED = 8
"""Number of classes that an error message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenevalBenchmark(TaskBenchmark):
    """GenEval (arXiv:2310.11513).

    Attributes:
        prompts: JSON lines in the official format; the number of a line, counted from 0, is the prompt's id.
        detector: Detector of objects and their colours.
        thresholds: Thresholds of the scorer; the official ones by default.
        rewriter: Rewriter of prompts before pictures are drawn, or None.
        pictures: Pictures that were drawn elsewhere, ``<five digits>/samples/<number>.png`` or, in files or folders,
            ``<five digits>_<number>.png`` and ``<five digits>/<number>.png``; None draws them with the model.
    """

    prompts: PinnedFile = OFFICIAL_PROMPTS
    detector: CocoDetectorConfig | SceneDetector = field(default_factory=CocoDetectorConfig)
    thresholds: GenevalConfig = field(default_factory=GenevalConfig)
    rewriter: Rewriter | None = None
    pictures: PictureFolder | None = None

    @property
    def name(self) -> str:
        """First part of the names of metrics; scores with rewritten prompts have names of their own."""
        return "geneval" if self.rewriter is None else "geneval_rewritten"

    def items(self) -> tuple[PromptItem, ...]:
        """Return the prompts of the file.

        Raises:
            ValueError: A broken line, a class that the detector does not know, or no prompt.
            StorageError: The file is missing.
        """
        prompts = read_prompts(self.prompts, self.detector.classes, self.detector.colour_names)
        chosen = sorted(_spread(prompts, self.prompts_per_task))
        return tuple(
            PromptItem(id=f"{number:05d}", prompt=prompts[number].prompt, about=prompts[number].to_metadata())
            for number in chosen
        )

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return pictures that were drawn elsewhere; a folder's ``metadata.jsonl`` says which prompt they belong to.

        Raises:
            PictureError: No file, two pictures of one number, or metadata that is no line of the prompt file.
        """
        whole = items if self.prompts_per_task is None else self.replace(prompts_per_task=None).items()
        number = self.pictures_per_prompt
        return locate(folder, items, number, layout=in_folders_or_numbered, known=whole, same=_asks_the_same)

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that a verdict depends on: the detector and the thresholds."""
        return self.verdict_settings("geneval/1", self.detector.settings(), self.thresholds)

    def judge(self, networks: Networks) -> GenevalJudge:
        """Return the judge that applies the official rules to the detector's boxes."""
        return GenevalJudge(self.detector.load(networks), self.thresholds, self.best_of)

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``geneval.overall``, ``.<task>`` and ``.prompts``; a sheet and the verdicts of every task."""
        records = f"{self.name}_verdicts.jsonl"
        found = self.result(results, self.name, protocol=self._protocol(), sheets=self.name, records=records)
        more = sum(len(record["pictures"]) > self.pictures_per_prompt for _, record in results)
        if not more or self.best_of is not None:
            return found
        words = f"{more} prompts {MORE_PICTURES}, all of which count"
        return replace(found, scores=tuple(s.replace(note=join_notes(words, s.note)) for s in found.scores))

    def _protocol(self) -> str:
        part = "" if self.prompts_per_task is None else f"; a part: {self.prompts_per_task} prompts a task"
        own = self.thresholds.to_json().items()
        official = GenevalConfig().to_json()
        changed = ", ".join(f"{name} {value}" for name, value in own if value != official[name])
        rules = f"official rules with {changed}" if changed else "official rules and thresholds"
        file = f"sha256 {self.prompts.sha256[:16]}" if self.prompts.sha256 else self.prompts.uri
        return (
            f"geneval/1: prompts {file}, {self.pictures_per_prompt} pictures each, {self.detector.describe()}, "
            f"{rules}, {describe(self.rewriter)}; overall is the plain mean of the tasks{part}"
        )


def _asks_the_same(item: PromptItem, metadata: Mapping[str, Any]) -> bool:
    """Return whether a folder's metadata ask for the objects of a prompt; other keys do not matter."""
    own = item.about
    return all(metadata[key] == own.get(key) for key in ("tag", "include", "exclude") if metadata.get(key))


def read_prompts(file: PinnedFile, classes: Sequence[str], colours: Sequence[str]) -> list[GenevalPrompt]:
    """Return the prompts of a file of JSON lines.

    Args:
        classes: Classes that the detector can find.
        colours: Colours that the detector can name.

    Raises:
        ValueError: The file is not UTF-8, has a line that is no prompt, or no prompt at all.
        StorageError: The file is missing.
    """
    prompts = []
    for where, data in json_objects(file.read(), file.uri):
        try:
            prompt = GenevalPrompt.from_metadata(data)
            _check(prompt, classes, colours)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{file.uri}: expected prompts, found an empty file")
    return prompts


def _check(prompt: GenevalPrompt, classes: Sequence[str], colours: Sequence[str]) -> None:
    """Refuse a prompt whose verdict would mean nothing: always wrong, or always right."""
    if not prompt.prompt.strip():
        raise ValueError("expected a text to draw, found an empty prompt")
    if not prompt.include and not prompt.exclude:
        raise ValueError("expected at least one object in include or exclude, found none: any picture would be right")
    for entry in (*prompt.include, *prompt.exclude):
        if entry.object_class not in classes:
            some = ", ".join(classes[:_NAMED])
            raise ValueError(
                f"expected one of the detector's {len(classes)} classes ({some}, ...), found {entry.object_class!r}, "
                "which it can never see; choose another detector or take the line out"
            )
        if entry.colour is not None and entry.colour not in colours:
            raise ValueError(
                f"expected one of the colours {', '.join(colours)}, found {entry.colour!r}, which the detector can "
                "never name"
            )


def _spread(prompts: Sequence[GenevalPrompt], most: int | None) -> list[int]:
    """Return numbers of prompts: all, or at most ``most`` per task, spread over the task."""
    by_task: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_task.setdefault(prompt.task, []).append(number)
    return [number for numbers in by_task.values() for number in spread(numbers, most)]
