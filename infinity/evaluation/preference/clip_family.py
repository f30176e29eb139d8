"""Benchmarks by a CLIP: PickScore (arXiv:2305.01569), and diversity, the distance between pictures of one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Any, ClassVar

import numpy as np

from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Picture
from infinity.evaluation.preference.benchmark import FitBenchmark, cosines, fit_judge
from infinity.evaluation.prompts.benchmark import Judge, PromptSample, Record, judge_each
from infinity.perception.clip import Clip, ClipConfig, normalised
from infinity.ranges import Range

PICK_SCORE = "yuvalkirstain/PickScore_v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class PickScoreBenchmark(FitBenchmark):
    """PickScore: the exponential of a CLIP's logit scale times the cosine; about 15 to 25 for real pictures.

    Attributes:
        clip: Network; by default the published one. Its folder must hold the processor too.
    """

    clip: ClipConfig = field(default_factory=lambda: ClipConfig(model=PICK_SCORE))

    metric: ClassVar[str] = "pick_score"

    def judge_settings(self) -> Mapping[str, Any]:
        return {"rules": "pick-score/1", "clip": self.clip.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        clip = networks.get(self.clip, Clip)
        scale, fit = clip.logit_scale, cosines(clip)
        return fit_judge(lambda pictures, prompts: [scale * value / 100 for value in fit(pictures, prompts)])

    def describe(self) -> str:
        return (
            f"pick-score/1: logit scale * cosine; {self.clip.model} digest {self.clip.weights_digest()} "
            f"({self.clip.dtype})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DiversityBenchmark(FitBenchmark):
    """Diversity: mean of 1 - cosine over all pairs of pictures of one prompt, 0 for equal pictures.

    Attributes:
        clip: Network that embeds pictures.
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    pictures_per_prompt: Annotated[int, Range(2)] = 4

    metric: ClassVar[str] = "diversity"

    def judge_settings(self) -> Mapping[str, Any]:
        return {"rules": "diversity/1", "clip": self.clip.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        """Return the judge of pairs; an item's record holds 1 - cosine of all pairs of its pictures."""
        clip = networks.get(self.clip, Clip)

        def pairs(_: PromptSample, pictures: list[Picture]) -> Record:
            rows = normalised(clip.embed_pictures(pictures)).double().cpu().numpy()
            return {"scores": [1 - float(np.dot(a, b)) for a, b in combinations(rows, 2)]}

        return judge_each(pairs, least=2)

    def describe(self) -> str:
        return (
            f"diversity/1: mean of 1 - cosine over pairs of pictures of a prompt; {self.clip.model} digest "
            f"{self.clip.weights_digest()} ({self.clip.dtype})"
        )
