"""Boxes of the benchmarks over prompts on the form of an evaluation."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from flows.forms.form import Count, Form, box
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.fid.drawn_distance import CmmdBenchmark, FdDinov2Benchmark
from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.coco_detector import CocoDetectorConfig
from infinity.evaluation.geneval.scenes import SceneDetector
from infinity.evaluation.preference.benchmark import (
    ClipScoreBenchmark,
    HpsBenchmark,
    ImageRewardBenchmark,
)
from infinity.evaluation.preference.clip_family import DiversityBenchmark, PickScoreBenchmark
from infinity.evaluation.preference.hps3 import Hps3Benchmark
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.evaluation.prompts.rewriting import InstructRewriter, RewriteFile, Rewriter
from infinity.perception.language.instruct import InstructConfig
from infinity.storage.pinned import PinnedFile


class RewritingForm(Form):
    """Rewriting of prompts before they are drawn; their scores have names of their own. Empty: no rewriting."""

    rewritten_file: str | None = box(
        'JSON lines {"prompt": …, "rewritten": …} with every prompt (path, s3:// or http URI).'
    )
    rewriter_model: str | None = box("Instead of a file: a language model that rewrites them (folder or hub name).")

    def rewriter(self, before: Rewriter | None) -> Rewriter | None:
        """Return the rewriter that was filled in, or the previous one."""
        if self.rewritten_file is not None and self.rewriter_model is not None:
            raise ValueError("rewriting: expected a file or a model, got both; leave one of the two boxes empty")
        if self.rewritten_file is not None:
            return RewriteFile(file=PinnedFile(uri=self.rewritten_file))
        if self.rewriter_model is not None:
            return InstructRewriter(model=InstructConfig(model=self.rewriter_model))
        return before


class GenevalForm(RewritingForm):
    """GenEval on its official prompts. Empty boxes: the official file and networks."""

    prompts_uri: str | None = box("Copy of the official file (path, s3:// or http URI).")
    prompts_sha256: str | None = box("Checksum of a file with other prompts.")
    detector: Literal["coco", "scenes"] | None = box(
        "coco: Mask2Former and CLIP. scenes: the exact detector, for prompts of drawn scenes."
    )
    objects_model: str | None = box("Mask2Former that finds objects (folder or hub name).")
    colours_model: str | None = box("CLIP that names colours (folder or hub name).")
    prompts_per_task: Count | None = box("Largest number of prompts per task.")
    pictures_per_prompt: Count | None = box("The benchmark has 4.")

    def change(self, before: GenevalBenchmark | None) -> GenevalBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = before or GenevalBenchmark()
        benchmark = benchmark.replace(
            detector=self._detector(benchmark.detector), rewriter=self.rewriter(benchmark.rewriter)
        )
        same = {name: name for name in ("prompts_per_task", "pictures_per_prompt")}
        return self.at_paths(benchmark, {**same, "prompts_uri": "prompts.uri", "prompts_sha256": "prompts.sha256"})

    def _detector(self, before: CocoDetectorConfig | SceneDetector) -> CocoDetectorConfig | SceneDetector:
        if self.detector == "scenes":
            return SceneDetector()
        detector = CocoDetectorConfig() if self.detector == "coco" and isinstance(before, SceneDetector) else before
        if isinstance(detector, SceneDetector):
            return detector
        return self.at_paths(detector, {"objects_model": "objects.model", "colours_model": "colours.model"})


class DpgForm(RewritingForm):
    """DPG-Bench. Empty boxes: the official prompts and questions, and a BLIP that answers them."""

    prompts: str | None = box("Folder of the prompts, <item id>.txt (path or s3:// URI).")
    questions_uri: str | None = box("Copy of the official table of questions, checked by its checksum.")
    vqa_model: str | None = box("BLIP, ViLT or an image-text-to-text model that answers (folder or hub name).")
    num_prompts: Count | None = box("Number of prompts, spread over all.")

    def change(self, before: DpgBenchmark | None) -> DpgBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = before or DpgBenchmark()
        benchmark = benchmark.replace(rewriter=self.rewriter(benchmark.rewriter))
        places = {"questions_uri": "questions.uri", "vqa_model": "vqa.model"}
        return self.at_paths(benchmark, {**places, "prompts": "prompts", "num_prompts": "num_prompts"})


class FitForm(RewritingForm):
    """Boxes that CLIP score, ImageReward and HPSv2 have in common.

    Attributes:
        kind: Benchmark that the form makes where there is none.
        places: Paths of further boxes in the benchmark.
    """

    kind: ClassVar[type[ListedBenchmark]]
    places: ClassVar[Mapping[str, str]] = {}

    prompts_uri: str | None = box(
        "Prompts instead of the benchmark's: .txt with one per line, .jsonl, or a .json list (path, s3:// or http URI)."
    )
    num_prompts: Count | None = box("Number of prompts per category.")
    pictures_per_prompt: Count | None = box("Pictures of every prompt.")

    def change(self, before: ListedBenchmark | None) -> ListedBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = before or self.kind()
        if self.prompts_uri is not None:
            benchmark = benchmark.replace(prompts=(PromptList(file=PinnedFile(uri=self.prompts_uri)),))
        benchmark = benchmark.replace(rewriter=self.rewriter(benchmark.rewriter))
        common = {name: name for name in ("num_prompts", "pictures_per_prompt")}
        return self.at_paths(benchmark, {**common, **self.places})


class ClipScoreForm(FitForm):
    """CLIP score, by default on the prompts of ImageReward's benchmark."""

    kind = ClipScoreBenchmark
    places: ClassVar[Mapping[str, str]] = {"clip_model": "clip.model"}

    clip_model: str | None = box("CLIP (folder or hub name); by default ViT-L/14.")


class PickScoreForm(FitForm):
    """PickScore, by default on the prompts of ImageReward's benchmark."""

    kind = PickScoreBenchmark
    places: ClassVar[Mapping[str, str]] = {"clip_model": "clip.model"}

    clip_model: str | None = box("CLIP with its processor (folder or hub name); by default the published one.")


class DiversityForm(FitForm):
    """Distance between the pictures of one prompt, by CLIP."""

    kind = DiversityBenchmark
    places: ClassVar[Mapping[str, str]] = {"clip_model": "clip.model"}

    clip_model: str | None = box("CLIP (folder or hub name); by default ViT-L/14.")


class DrawnDistanceForm(FitForm):
    """Distance between pictures of prompts and a reference set."""

    places: ClassVar[Mapping[str, str]] = {"reference_uri": "reference.uri", "network_model": "network.model"}

    reference_uri: str | None = box(
        "Pictures to compare with: a folder, tar shards, or a manifest (path or s3:// URI)."
    )
    network_model: str | None = box("CLIP or DINOv2 (folder or hub name); by default the published one.")

    def change(self, before: ListedBenchmark | None) -> ListedBenchmark:
        """Return the benchmark with what was filled in.

        Raises:
            ValueError: There is no list of prompts, or no reference set.
        """
        if before is None and (self.prompts_uri is None or self.reference_uri is None):
            raise ValueError("expected prompts_uri and reference_uri, got none of one; fill in both boxes")
        if before is None:
            lists = (PromptList(file=PinnedFile(uri=str(self.prompts_uri))),)
            before = self.kind(prompts=lists, reference=ReferenceSet(uri=str(self.reference_uri)))  # type: ignore[call-arg]
        return super().change(before)


class CmmdForm(DrawnDistanceForm):
    """CMMD between pictures of prompts and a reference set."""

    kind = CmmdBenchmark


class FdDinov2Form(DrawnDistanceForm):
    """FD-DINOv2 between pictures of prompts and a reference set."""

    kind = FdDinov2Benchmark


WEIGHTS = {"weights_uri": "network.weights.uri", "weights_sha256": "network.weights.sha256"}
"""Paths of the boxes of a file of weights."""


class WeightsForm(FitForm):
    """Boxes of a scorer whose weights are one published file."""

    weights_uri: str | None = box("Copy of the published weights file (path, s3:// or http URI).")
    weights_sha256: str | None = box("First digits of its checksum.")
    tokenizer: str | None = box("Tokenizer of the prompts (folder or hub name).")


class ImageRewardForm(WeightsForm):
    """ImageReward on its 100 prompts, ten pictures each."""

    kind = ImageRewardBenchmark
    places: ClassVar[Mapping[str, str]] = {**WEIGHTS, "tokenizer": "network.tokenizer"}


class HpsForm(WeightsForm):
    """HPSv2 on its 3,200 prompts of four styles, one picture each."""

    version: Literal["v2.1", "v2.0"] | None = box("Scores of two versions do not compare.")

    kind = HpsBenchmark
    places: ClassVar[Mapping[str, str]] = {**WEIGHTS, "tokenizer": "network.tokenizer", "version": "network.version"}

    def change(self, before: ListedBenchmark | None) -> ListedBenchmark:
        """Return the benchmark with what was filled in; a box of the weights begins with the published file."""
        benchmark = before or HpsBenchmark()
        assert isinstance(benchmark, HpsBenchmark)
        if self.given("weights_uri", "weights_sha256"):
            network = benchmark.network.replace(**self.given("version"))
            benchmark = benchmark.replace(network=network.replace(weights=network.file))
        return super().change(benchmark)


class Hps3Form(WeightsForm):
    """HPSv3 on HPSv2's 3,200 prompts of four styles, one picture each; the tokenizer is a Qwen2-VL's."""

    kind = Hps3Benchmark
    places: ClassVar[Mapping[str, str]] = {
        **WEIGHTS,
        "tokenizer": "network.base",
        "instruction_uri": "network.instruction.uri",
    }

    instruction_uri: str | None = box("Copy of the published data_collator_qwen.py, which holds the instruction.")
