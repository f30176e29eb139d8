"""Benchmark by HPSv3 (arXiv:2508.03789), a vision-language model that learned what people prefer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from infinity.evaluation.networks import Networks
from infinity.evaluation.preference.benchmark import HPS_PROMPTS, FitBenchmark, fit_judge
from infinity.evaluation.prompts.benchmark import Judge
from infinity.evaluation.prompts.lists import PromptList
from infinity.perception.preference.hps3 import Hps3, Hps3Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Hps3Benchmark(FitBenchmark):
    """HPSv3, about -5 to 15, by default on HPSv2's prompts: 800 in each of four styles, one picture of each.

    Attributes:
        network: Network that scores pictures; 16 GB in bfloat16.
    """

    network: Hps3Config = field(default_factory=Hps3Config)
    prompts: tuple[PromptList, ...] = HPS_PROMPTS

    metric: ClassVar[str] = "hps_v3"

    def judge_settings(self) -> Mapping[str, Any]:
        return {"rules": "hps3/1", "weights": self.network.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        return fit_judge(networks.get(self.network, Hps3))

    def describe(self) -> str:
        return (
            f"hps3/1: HPSv3 weights sha256 {self.network.weights.content_digest()[:16]} ({self.network.dtype}, last "
            f"layers float32), pictures scaled to about {self.network.pixels} px by Pillow's bicubic filter, mean of "
            "the predicted preference"
        )
