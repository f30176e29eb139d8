"""The six GenEval tasks over drawn scenes: pictures for held-out captions, found by an exact detector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from infinity.config import Config
from infinity.data.manifest import Manifest
from infinity.data.pictures import compose_sheet
from infinity.data.scene_prompts import TASKS, ScenePrompt, held_out_prompts
from infinity.evaluation.geneval import GenevalConfig, GenevalPrompt, Verdict, judge
from infinity.evaluation.geneval_state import GenevalState
from infinity.evaluation.measure import Material, Outcome, Picture, SheetImage, Subject, magnification
from infinity.evaluation.scene_detector import detect

RIGHT, WRONG = (30, 150, 70), (205, 60, 50)
"""RGB of the frames around right and wrong pictures."""

_TITLES = {
    "single_object": "Single object",
    "two_object": "Two objects",
    "counting": "Counting",
    "colors": "Colours",
    "position": "Position",
    "color_attr": "Colour attribution",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneMeasure(Config):
    """GenEval's tasks on the held-out captions of drawn scenes.

    Args:
        pictures_per_prompt: Drawings of every caption; GenEval has 4.
        prompts_per_task: At most so many captions of a task; None takes all that are held out, 120 in all.
        num_shown: Captions of each task on its sheet.
    """

    pictures_per_prompt: int = 4
    prompts_per_task: int | None = None
    num_shown: int = 8

    def __post_init__(self) -> None:
        if self.pictures_per_prompt < 1 or self.num_shown < 0:
            raise ValueError(
                "SceneMeasure: expected at least 1 picture a prompt and num_shown of at least 0, got "
                f"{self.pictures_per_prompt} and {self.num_shown}"
            )
        if self.prompts_per_task is not None and self.prompts_per_task < 1:
            raise ValueError(f"SceneMeasure.prompts_per_task: expected at least 1, got {self.prompts_per_task}")

    def parts(self, subject: Subject, manifest: Manifest) -> tuple[ScenePart, ...]:
        """Captions in batches of about ``batch_size`` pictures; the data set plays no part."""
        chosen: list[tuple[ScenePrompt, bool]] = []
        for task in TASKS:
            prompts = held_out_prompts(task)[: self.prompts_per_task]
            chosen += [(prompt, number < self.num_shown) for number, prompt in enumerate(prompts)]
        size = max(1, subject.batch_size // self.pictures_per_prompt)
        groups = (chosen[start : start + size] for start in range(0, len(chosen), size))
        return tuple(
            ScenePart(
                prompts=tuple(prompt for prompt, _ in group),
                shown=tuple(is_shown for _, is_shown in group),
                pictures_per_prompt=self.pictures_per_prompt,
            )
            for group in groups
        )

    def outcome(self, state: SceneState) -> Outcome:
        """``scene_geneval.overall``, ``.<task>`` and ``.prompts``; a sheet and the verdicts of every task."""
        protocol = (
            f"scene-geneval/1: held-out captions of drawn scenes, {self.pictures_per_prompt} pictures each, exact "
            "detector, official GenEval rules and thresholds; overall is the plain mean of the tasks"
        )
        sheets = {
            f"samples.{task}": _sheet(task, [shown for shown in state.shown if shown.task == task])
            for task in TASKS
            if any(shown.task == task for shown in state.shown)
        }
        records = {"scene_verdicts.jsonl": state.records}
        ids = {key: json.loads(key)["prompt"] for key in state.counts.prompts}
        return Outcome(
            scores=state.counts.scores("scene_geneval", protocol=protocol),
            sheets=sheets,
            records=records,
            items=state.counts.items("scene_geneval", ids),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ShownPrompt:
    """All pictures of one caption, and which of them are right."""

    task: str
    prompt: str
    pictures: tuple[Picture, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SceneState:
    """Counts of verdicts, captions to show, and one record a picture."""

    counts: GenevalState
    shown: tuple[ShownPrompt, ...]
    records: tuple[Mapping[str, object], ...]

    def __add__(self, other: SceneState) -> SceneState:
        return SceneState(self.counts + other.counts, self.shown + other.shown, self.records + other.records)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePart:
    """Some captions; ``shown`` tells which of them go on the sheets."""

    prompts: tuple[ScenePrompt, ...]
    shown: tuple[bool, ...]
    pictures_per_prompt: int

    @property
    def num_pictures(self) -> int:
        """Pictures that are drawn."""
        return len(self.prompts) * self.pictures_per_prompt

    def compute(self, material: Material) -> SceneState:
        """Draw the pictures and judge them; picture j of a caption has the subject's seed plus j."""
        each = self.pictures_per_prompt
        seeds = [material.subject.seed + j for j in range(each)] * len(self.prompts)
        generated = material.pipeline.generate(
            [prompt.prompt for prompt in self.prompts for _ in range(each)],
            sampling=material.subject.sampling,
            seeds=seeds,
            batch_size=self.num_pictures,
        )
        return self.judge(generated.images_BHW3.numpy(), seeds)

    def judge(self, pictures_NHWC: UInt8[np.ndarray, "N H W 3"], seeds: list[int]) -> SceneState:
        """The state of drawn pictures, ``pictures_per_prompt`` of the first caption first."""
        each = self.pictures_per_prompt
        prompts = [GenevalPrompt.from_metadata(prompt.metadata()) for prompt in self.prompts for _ in range(each)]
        verdicts = [judge_scene(prompt, picture) for prompt, picture in zip(prompts, pictures_NHWC, strict=True)]
        judged = list(zip(prompts, verdicts, strict=True))
        shown = tuple(
            ShownPrompt(
                prompt.task,
                prompt.prompt,
                tuple(pictures_NHWC[number * each : (number + 1) * each]),
                tuple(verdict.correct for verdict in verdicts[number * each : (number + 1) * each]),
            )
            for number, (prompt, is_shown) in enumerate(zip(self.prompts, self.shown, strict=True))
            if is_shown
        )
        records = tuple(
            {
                "tag": prompt.task,
                "prompt": prompt.prompt,
                "seed": seed,
                "correct": verdict.correct,
                "reason": verdict.reason,
            }
            for (prompt, verdict), seed in zip(judged, seeds, strict=True)
        )
        return SceneState(GenevalState.of(judged), shown, records)


def judge_scene(prompt: GenevalPrompt, picture: Picture) -> Verdict:
    """Whether a drawn scene shows what its caption asks for."""
    return judge(prompt, detect(picture), GenevalConfig())


def _sheet(task: str, shown: list[ShownPrompt]) -> SheetImage:
    pictures = [picture for row in shown for picture in row.pictures]
    marks = [RIGHT if right else WRONG for row in shown for right in row.right]
    columns = len(shown[0].pictures)
    return SheetImage(
        png=compose_sheet(pictures, columns, gap_px=3, enlarge=magnification(pictures[0]), marks=marks),
        title=f"{_TITLES[task]}: one caption a row; a green frame marks a right picture, a red one a wrong picture",
        captions=tuple(f"{row.prompt} ({sum(row.right)} of {len(row.right)} right)" for row in shown),
    )
