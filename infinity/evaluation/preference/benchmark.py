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
    JudgedPrompts,
    MissingPicture,
    PromptItem,
    PromptSample,
    Record,
    complete,
    described,
    join_notes,
    note_of_missing,
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
    def rules(self) -> Mapping[str, Any]:
        """Return all that a number depends on besides picture and prompt, as JSON.

        Raises:
            ValueError: The weights are missing, or are not the expected ones.
        """

    @abstractmethod
    def fit(self, networks: Networks) -> Fit:
        """Return the scoring function, with its network loaded."""

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

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that a number depends on: network and arithmetic.

        Raises:
            ValueError: The weights are missing, or are not the expected ones.
        """
        return self.rules()

    def judge(self, networks: Networks) -> FitJudge:
        """Return the judge, with its network loaded."""
        return FitJudge(self.fit(networks))

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``<name>.overall`` and ``.<category>``; the numbers of all pictures."""
        scored: dict[str, dict[str, float]] = {}
        failed: list[str] = []
        for sample, record in results:
            if "missing" in record:
                failed.append(f"{sample.item.id}: {record['missing']}")
                continue
            scored.setdefault(category_of(sample.item), {})[sample.item.id] = fmean(record["scores"])
        note = note_of_missing(len(failed), len(results.samples), "prompts", next(iter(failed), ""))
        protocol = self._protocol(results)
        means = {item: value for values in scored.values() for item, value in values.items()}
        named = {slug(category): values for category, values in sorted(scored.items()) if category}
        groups = {"overall": means, **named}
        return BenchmarkResult(
            scores=tuple(self._score(part, values, protocol, note) for part, values in groups.items()),
            records={f"{self.name}_scores.jsonl": [{**described(sample), **record} for sample, record in results]},
            items={f"{self.name}.overall": means} if means else {},
        )

    def _score(self, part: str, values: Mapping[str, float], protocol: str, note: str) -> Score:
        metric = f"{self.name}.{part}"
        if not values:
            reason = note or "there was no prompt"
            return Score.not_measured(metric, self.unit, protocol=protocol, reason=reason)
        interval = mean_interval(list(values.values()))
        low, high = interval or (None, None)
        about = "interval from resampling prompts" if interval else ""
        return Score(
            metric=metric, value=fmean(values.values()), unit=self.unit, n=len(values), protocol=protocol, low=low,
            high=high, note=join_notes(note, about),
        )  # fmt: skip

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

    def rules(self) -> Mapping[str, Any]:
        return {"rules": CLIP_SCORE, "clip": self.clip.weights_digest()}

    def fit(self, networks: Networks) -> Fit:
        return cosines(networks.get(self.clip, Clip))

    def describe(self) -> str:
        return f"{CLIP_SCORE}; {self.clip.model} digest {self.clip.weights_digest()} ({self.clip.dtype})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRewardBenchmark(FitBenchmark):
    """ImageReward 1.0 on its benchmark: 100 prompts, ten pictures of each."""

    network: ImageRewardConfig = field(default_factory=ImageRewardConfig)
    pictures_per_prompt: Count = 10

    metric: ClassVar[str] = "image_reward"

    def rules(self) -> Mapping[str, Any]:
        return {"rules": "image-reward/1", "weights": self.network.weights_digest()}

    def fit(self, networks: Networks) -> Fit:
        return networks.get(self.network, ImageReward)

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

    def rules(self) -> Mapping[str, Any]:
        return {"rules": "hps/1", "weights": self.network.weights_digest()}

    def fit(self, networks: Networks) -> Fit:
        return cosines(networks.get(self.network, Hps))

    def describe(self) -> str:
        resize = "averaging" if self.network.antialias else "not averaging"
        return (
            f"hps/1: HPS {self.network.version} weights sha256 {self.network.file.content_digest()[:16]} (float32), "
            f"longer side to 224 px by a bicubic filter ({resize}), black around, 100 * cosine, not clamped"
        )


@dataclass(frozen=True, slots=True)
class FitJudge:
    """Judge that scores pictures; an item's record holds the numbers of its pictures, or why a picture is missing."""

    fit: Fit

    def __call__(
        self, samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> list[Record]:
        """Score all pictures in batches. An item with a missing picture has no number: its mean would not compare."""
        records: list[dict[str, Any]] = []
        waiting: list[tuple[dict[str, Any], Picture, str]] = []
        for sample, found in zip(samples, pictures, strict=True):
            usable = complete(found)
            if isinstance(usable, str):
                records.append({"missing": usable})
                continue
            records.append({"scores": []})
            waiting += [(records[-1], picture, sample.item.prompt) for picture in usable]
        numbers = self.fit([picture for _, picture, _ in waiting], [prompt for _, _, prompt in waiting])
        for (record, _, _), number in zip(waiting, numbers, strict=True):
            record["scores"].append(float(number))
        return list(records)


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
