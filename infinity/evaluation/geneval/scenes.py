"""The six GenEval tasks over drawn scenes: pictures of held-out captions, checked by an exact detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from infinity.config import Config
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.geneval.scene_detector import detect
from infinity.evaluation.geneval.scoring import Detections, GenevalConfig
from infinity.evaluation.geneval.verdicts import GenevalJudge, TaskBenchmark
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Picture
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder, PromptItem, PromptSample
from infinity.evaluation.prompts.found import locate
from infinity.scenes.prompts import COLORS, PLURALS, TASKS, held_out_prompts, prompts_to_ask

DETECTOR_VERSION = 1
"""Version of the detector; raise it when the detector finds something else in the same picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneDetector(Config):
    """The exact detector of drawn scenes.

    Attributes:
        kind: Tag that tells this detector from others in JSON.
    """

    kind: Literal["scenes"] = "scenes"

    def load(self, networks: Networks) -> SceneDetector:
        """Return the detector itself: it has no weights."""
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all shapes that the detector can find."""
        return tuple(PLURALS)

    @property
    def colour_names(self) -> tuple[str, ...]:
        """Names of all colours that the detector can tell."""
        return tuple(COLORS)

    def describe(self) -> str:
        """Return the detector in words, for the protocol."""
        return f"exact detector of drawn scenes, version {DETECTOR_VERSION}"

    def settings(self) -> dict[str, Any]:
        """Return all settings that a detection depends on."""
        return {**self.to_json(), "version": DETECTOR_VERSION}

    def __call__(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the shapes in every picture, which must be square."""
        return [detect(picture) for picture in pictures]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneBenchmark(TaskBenchmark):
    """GenEval's tasks on captions of drawn scenes.

    Attributes:
        captions: "held_out" takes the 121 captions that no training picture has. "all" adds those of training after
            them: 50 per task are 240 in all, since some tasks have fewer.
    """

    later: ClassVar[frozenset[str]] = frozenset({"captions", "best_of"})

    captions: Literal["held_out", "all"] = "held_out"

    @property
    def name(self) -> str:
        """First part of the names of metrics."""
        return "scene_geneval"

    @property
    def rewriter(self) -> None:
        """None: captions of scenes are drawn as they are."""
        return None

    @property
    def pictures(self) -> None:
        """None: pictures are always drawn with the model."""
        return None

    def items(self) -> tuple[PromptItem, ...]:
        """Return the captions, task by task, the held-out ones of each task first; a caption is its own id."""
        source = held_out_prompts if self.captions == "held_out" else prompts_to_ask
        prompts = [prompt for task in TASKS for prompt in source(task)[: self.prompts_per_task]]
        return tuple(PromptItem(id=prompt.prompt, prompt=prompt.prompt, about=prompt.metadata()) for prompt in prompts)

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return pictures that were drawn elsewhere."""
        return locate(folder, items, self.pictures_per_prompt)

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that a verdict depends on: the detector and the official thresholds."""
        return self.verdict_settings("scene-geneval/1", SceneDetector().settings(), GenevalConfig())

    def judge(self, networks: Networks) -> GenevalJudge:
        """Return the judge that applies the official rules to the exact detector's boxes."""
        return GenevalJudge(SceneDetector(), GenevalConfig(), self.best_of)

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``scene_geneval.overall``, ``.<task>`` and ``.prompts``; a sheet and the verdicts of every task."""
        which = "held-out captions" if self.captions == "held_out" else "captions, held-out and trained ones,"
        protocol = (
            f"scene-geneval/1: {which} of drawn scenes, {self.pictures_per_prompt} pictures each, exact "
            "detector, official GenEval rules and thresholds; overall is the plain mean of the tasks"
        )
        return self.result(results, self.name, protocol=protocol, sheets="samples", records="scene_verdicts.jsonl")
