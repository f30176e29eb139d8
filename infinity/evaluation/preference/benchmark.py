"""How well pictures fit their prompts, one number per picture: CLIP score, ImageReward, HPSv2.

The three benchmarks differ in the network only. All take prompts from lists and one or several pictures of each prompt.
They report the mean over prompts of the mean over a prompt's pictures, also by category where a list has categories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.bootstrap import mean_interval
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Picture
from infinity.evaluation.preference.clip_score import PROTOCOL as CLIP_SCORE
from infinity.evaluation.preference.clip_score import clip_scores
from infinity.evaluation.prompts.benchmark import (
    Judge,
    JudgedPrompts,
    PromptItem,
    judge_pictures,
)
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.lists import PromptList, category_of, describe, read_lists
from infinity.evaluation.score import Score, slug
from infinity.perception.clip import Clip, ClipConfig, PictureTextEncoder
from infinity.perception.preference.hps import Hps, HpsConfig
from infinity.perception.preference.image_reward import ImageReward, ImageRewardConfig
from infinity.ranges import Count
from infinity.storage.pinned import PinnedFile

IMAGE_REWARD_PROMPTS = PromptList(
    file=PinnedFile(
        uri="https://raw.githubusercontent.com/THUDM/ImageReward/c1392c6dd0fd6ecd6d416c96959ab744a6d0a8fb/"
        "benchmark/benchmark-prompts.json",
        git_blob="24b1d4222f97110ea24317640f28795efa71165c",
    )
)
"""100 prompts of ImageReward's benchmark."""

HPS_PROMPTS = tuple(
    PromptList(
        file=PinnedFile(uri=f"https://huggingface.co/datasets/zhwang/HPDv2/resolve/main/benchmark/{style}.json"),
        category=style,
    )
    for style in ("anime", "concept-art", "paintings", "photo")
)
"""800 prompts in each of the four styles of HPSv2's benchmark."""

Fit = Callable[[Sequence[Picture], Sequence[str]], Iterable[float]]
"""Function from pictures and their prompts to one number per pair."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitBenchmark(ListedBenchmark, ABC):
    """Base of the three benchmarks.

    Attributes:
        prompts: Lists of prompts. ``num_prompts`` counts per category, and an id begins with its category,
            ``<category>/``.
    """

    unit: ClassVar[str] = ""

    prompts: tuple[PromptList, ...] = (IMAGE_REWARD_PROMPTS,)

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"{type(self).__name__}.prompts: expected at least one list, got none")

    @abstractmethod
    def judge_settings(self) -> Mapping[str, Any]:
        """Return all that a number depends on besides picture and prompt, as JSON: network and arithmetic.

        Raises:
            ValueError: The weights are missing, or are not the expected ones.
        """

    @abstractmethod
    def judge(self, networks: Networks) -> Judge:
        """Return the judge, with its network loaded; an item's record holds its numbers under ``scores``."""

    @abstractmethod
    def describe(self) -> str:
        """Return version, network and arithmetic in words, for the protocol."""

    def items(self) -> tuple[PromptItem, ...]:
        """Return the prompts.

        Raises:
            ValueError: A list has a broken line, or no prompt.
            StorageError: A file is missing.
        """
        return read_lists(self.prompts, self.num_prompts)

    def all_items(self) -> tuple[PromptItem, ...]:
        """Return the prompts of all categories."""
        return read_lists(self.prompts, None)

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``<name>.overall`` and ``.<category>``; the numbers of all pictures."""
        scored: dict[str, dict[str, float]] = {}
        for sample, record in results:
            if "scores" in record:
                scored.setdefault(category_of(sample.item), {})[sample.item.id] = fmean(record["scores"])
        note = results.missing_note()
        protocol = self._protocol(results)
        means = {item: value for values in scored.values() for item, value in values.items()}
        named = {slug(category): values for category, values in sorted(scored.items()) if category}
        groups = {"overall": means, **named}
        return BenchmarkResult(
            scores=tuple(self._score(part, values, protocol, note) for part, values in groups.items()),
            records={f"{self.name}_scores.jsonl": results.lines()},
            items={f"{self.name}.overall": means} if means else {},
        )

    def _score(self, part: str, values: Mapping[str, float], protocol: str, note: str) -> Score:
        metric = f"{self.name}.{part}"
        if not values:
            reason = note or "there was no prompt"
            return Score.not_measured(metric, self.unit, protocol=protocol, reason=reason)
        mean, interval = fmean(values.values()), mean_interval(list(values.values()))
        return Score.resampled(metric, mean, self.unit, len(values), interval, protocol=protocol, note=note)

    def _protocol(self, results: JudgedPrompts) -> str:
        return (
            f"{self.describe()}; {describe([sample.item for sample in results.samples])}, {self.pictures_per_prompt} "
            f"pictures each, mean of the prompts' means, {self.drawing(' a category')}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipScoreBenchmark(FitBenchmark):
    """CLIP score, 100 times the cosine; by default on the prompts of ImageReward's benchmark.

    Attributes:
        clip: Network that embeds pictures and texts.
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    pictures_per_prompt: Count = 10

    metric: ClassVar[str] = "clip_score"

    def judge_settings(self) -> Mapping[str, Any]:
        return {"rules": CLIP_SCORE, "clip": self.clip.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        return fit_judge(cosines(networks.get(self.clip, Clip)))

    def describe(self) -> str:
        return f"{CLIP_SCORE}; {self.clip.model} digest {self.clip.weights_digest()} ({self.clip.dtype})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRewardBenchmark(FitBenchmark):
    """ImageReward 1.0 on its benchmark: 100 prompts, ten pictures of each."""

    network: ImageRewardConfig = field(default_factory=ImageRewardConfig)
    pictures_per_prompt: Count = 10

    metric: ClassVar[str] = "image_reward"

    def judge_settings(self) -> Mapping[str, Any]:
        return {"rules": "image-reward/1", "weights": self.network.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        return fit_judge(networks.get(self.network, ImageReward))

    def describe(self) -> str:
        return (
            f"image-reward/1: weights sha256 {self.network.weights.content_digest()[:16]} (float32), short side to 224 "
            f"px by Pillow's bicubic filter, centre crop, prompts cut to {self.network.max_tokens} tokens, normalised "
            "by mean 0.1672 and deviation 1.0333"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HpsBenchmark(FitBenchmark):
    """HPSv2 on its benchmark: 800 prompts in each of four styles, one picture of each; 100 times the cosine.

    Attributes:
        network: Network and its version.
    """

    network: HpsConfig = field(default_factory=HpsConfig)
    prompts: tuple[PromptList, ...] = HPS_PROMPTS

    @property
    def metric(self) -> str:
        """First part of the names of metrics; each version has names of its own, since versions never compare."""
        return f"hps_{self.network.version.replace('.', '')}"

    def judge_settings(self) -> Mapping[str, Any]:
        return {"rules": "hps/1", "weights": self.network.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        return fit_judge(cosines(networks.get(self.network, Hps)))

    def describe(self) -> str:
        resize = "averaging" if self.network.antialias else "not averaging"
        return (
            f"hps/1: HPS {self.network.version} weights sha256 {self.network.file.content_digest()[:16]} (float32), "
            f"longer side to 224 px by a bicubic filter ({resize}), black around, 100 * cosine, not clamped"
        )


def fit_judge(fit: Fit) -> Judge:
    """Return a judge that keeps the number of every picture under ``scores``."""
    return judge_pictures("scores", lambda pictures, prompts: map(float, fit(pictures, prompts)))


def cosines(encoder: PictureTextEncoder) -> Fit:
    """Return 100 * cosine of every picture and its prompt; a prompt is embedded once, however many pictures it has."""

    def fit(pictures: Sequence[Picture], prompts: Sequence[str]) -> Iterable[float]:
        if not pictures:
            return []
        unique = list(dict.fromkeys(prompts))
        texts = dict(zip(unique, encoder.embed_texts(unique).cpu().numpy(), strict=True))
        seen = encoder.embed_pictures(pictures).cpu().numpy()
        found: list[float] = clip_scores(seen, np.stack([texts[prompt] for prompt in prompts])).tolist()
        return found

    return fit
