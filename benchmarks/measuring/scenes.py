"""Drawn scenes of a model, judged by GenEval's rules and the exact detector: verdicts, a score and its interval."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import numpy as np

from infinity.evaluation.geneval.scene_detector import detect
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.geneval.scoring import GenevalPrompt, judge
from infinity.evaluation.geneval.state import GenevalState, PromptCount
from infinity.evaluation.score import Score
from infinity.generation.sampling import SamplingConfig


def drawing_parser(about: str | None, guidance: float, temperature: float) -> argparse.ArgumentParser:
    """Return a parser of a model and of the settings of its drawings, with these defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder")
    parser.add_argument("--guidance", type=float, default=guidance, help=f"strength of guidance ({guidance:g})")
    parser.add_argument("--temperature", type=float, default=temperature, help=f"of the bits ({temperature:g})")
    return parser


def sampling_of(given: argparse.Namespace) -> SamplingConfig:
    """Return the settings that a `drawing_parser` read."""
    return SamplingConfig(guidance=given.guidance, temperature=given.temperature)


class SceneVerdicts:
    """Held-out captions of drawn scenes, and whether pictures show them.

    Args:
        per_task: Largest number of captions per task; None takes all 121.
    """

    def __init__(self, per_task: int | None = None) -> None:
        items = SceneBenchmark(prompts_per_task=per_task).items()
        self._prompts = {item.prompt: GenevalPrompt.from_metadata(item.about) for item in items}

    @property
    def captions(self) -> list[str]:
        """Captions, task by task."""
        return list(self._prompts)

    def __call__(self, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> list[float]:
        """Return 1 for every picture that shows its caption, else 0; a scorer of the data stage's form."""
        pairs = zip(pictures, captions, strict=True)
        return [float(judge(self._prompts[caption], detect(picture)).correct) for picture, caption in pairs]

    def score(self, judged: Iterable[tuple[str, float]]) -> Score:
        """Return scene-GenEval over (caption, verdict) pairs: the plain mean of the tasks, with its 95 % interval."""
        state = GenevalState()
        for caption, verdict in judged:
            count = PromptCount(self._prompts[caption].task, int(verdict), 1)
            state = state + GenevalState({caption: count})
        return state.scores("scene_geneval", protocol="scene-geneval/1")[0]


def in_words(score: Score) -> str:
    """Return a score as "0.912 (0.874 to 0.945, n = 484)"."""
    interval = "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}, "
    return f"{score.value:.3f} ({interval}n = {score.n})"
