"""Boxes of the benchmarks over prompts on the form of an evaluation."""

from typing import Literal, TypeVar

from pydantic import Field

from flows.forms.form import Count, Form
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.fid.drawn_distance import CmmdBenchmark, DrawnDistanceBenchmark, FdDinov2Benchmark
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

AnyListed = TypeVar("AnyListed", bound=ListedBenchmark)
AnyDistance = TypeVar("AnyDistance", bound=DrawnDistanceBenchmark)


class RewritingForm(Form):
    """Rewriting of prompts before they are drawn; their scores have names of their own. Empty: no rewriting."""

    rewritten_file: str | None = Field(
        default=None,
        description='JSON lines {"prompt": …, "rewritten": …} with every prompt (path, s3:// or http URI).',
    )
    rewriter_model: str | None = Field(
        default=None, description="Instead of a file: a language model that rewrites them (folder or hub name)."
    )

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

    prompts_uri: str | None = Field(default=None, description="Copy of the official file (path, s3:// or http URI).")
    prompts_sha256: str | None = Field(default=None, description="Checksum of a file with other prompts.")
    detector: Literal["coco", "scenes"] | None = Field(
        default=None, description="coco: Mask2Former and CLIP. scenes: the exact detector, for prompts of drawn scenes."
    )
    objects_model: str | None = Field(default=None, description="Mask2Former that finds objects (folder or hub name).")
    colours_model: str | None = Field(default=None, description="CLIP that names colours (folder or hub name).")
    prompts_per_task: Count | None = Field(default=None, description="Largest number of prompts per task.")
    pictures_per_prompt: Count | None = Field(default=None, description="The benchmark has 4.")

    def change(self, before: GenevalBenchmark | None) -> GenevalBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = before or GenevalBenchmark()
        prompts = {name.removeprefix("prompts_"): v for name, v in self.given("prompts_uri", "prompts_sha256").items()}
        return benchmark.replace(
            prompts=benchmark.prompts.replace(**prompts),
            detector=self._detector(benchmark.detector),
            rewriter=self.rewriter(benchmark.rewriter),
            **self.given("prompts_per_task", "pictures_per_prompt"),
        )

    def _detector(self, before: CocoDetectorConfig | SceneDetector) -> CocoDetectorConfig | SceneDetector:
        if self.detector == "scenes":
            return SceneDetector()
        detector = CocoDetectorConfig() if self.detector == "coco" and isinstance(before, SceneDetector) else before
        if isinstance(detector, SceneDetector):
            return detector
        if self.objects_model is not None:
            detector = detector.replace(objects=detector.objects.replace(model=self.objects_model))
        if self.colours_model is not None:
            detector = detector.replace(colours=detector.colours.replace(model=self.colours_model))
        return detector


class DpgForm(RewritingForm):
    """DPG-Bench. Empty boxes: the official prompts and questions, and a BLIP that answers them."""

    prompts: str | None = Field(default=None, description="Folder of the prompts, <item id>.txt (path or s3:// URI).")
    questions_uri: str | None = Field(
        default=None, description="Copy of the official table of questions, checked by its checksum."
    )
    vqa_model: str | None = Field(
        default=None, description="BLIP, ViLT or an image-text-to-text model that answers (folder or hub name)."
    )
    num_prompts: Count | None = Field(default=None, description="Number of prompts, spread over all.")

    def change(self, before: DpgBenchmark | None) -> DpgBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = before or DpgBenchmark()
        if self.questions_uri is not None:
            benchmark = benchmark.replace(questions=benchmark.questions.replace(uri=self.questions_uri))
        if self.vqa_model is not None:
            benchmark = benchmark.replace(vqa=benchmark.vqa.replace(model=self.vqa_model))
        return benchmark.replace(rewriter=self.rewriter(benchmark.rewriter), **self.given("prompts", "num_prompts"))


class FitForm(RewritingForm):
    """Boxes that CLIP score, ImageReward and HPSv2 have in common."""

    prompts_uri: str | None = Field(
        default=None,
        description="Prompts instead of the benchmark's: .txt with one per line, .jsonl, or a .json list (path, s3:// "
        "or http URI).",
    )
    num_prompts: Count | None = Field(default=None, description="Number of prompts per category.")
    pictures_per_prompt: Count | None = Field(default=None, description="Pictures of every prompt.")

    def common(self, benchmark: AnyListed) -> AnyListed:
        """Return the benchmark with what was filled in of these boxes."""
        if self.prompts_uri is not None:
            benchmark = benchmark.replace(prompts=(PromptList(file=PinnedFile(uri=self.prompts_uri)),))
        changes = self.given("num_prompts", "pictures_per_prompt")
        return benchmark.replace(rewriter=self.rewriter(benchmark.rewriter), **changes)


class ClipScoreForm(FitForm):
    """CLIP score, by default on the prompts of ImageReward's benchmark."""

    clip_model: str | None = Field(default=None, description="CLIP (folder or hub name); by default ViT-L/14.")

    def change(self, before: ClipScoreBenchmark | None) -> ClipScoreBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = self.common(before or ClipScoreBenchmark())
        if self.clip_model is None:
            return benchmark
        return benchmark.replace(clip=benchmark.clip.replace(model=self.clip_model))


class PickScoreForm(FitForm):
    """PickScore, by default on the prompts of ImageReward's benchmark."""

    clip_model: str | None = Field(
        default=None, description="CLIP with its processor (folder or hub name); by default the published one."
    )

    def change(self, before: PickScoreBenchmark | None) -> PickScoreBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = self.common(before or PickScoreBenchmark())
        if self.clip_model is None:
            return benchmark
        return benchmark.replace(clip=benchmark.clip.replace(model=self.clip_model))


class DiversityForm(FitForm):
    """Distance between the pictures of one prompt, by CLIP."""

    clip_model: str | None = Field(default=None, description="CLIP (folder or hub name); by default ViT-L/14.")

    def change(self, before: DiversityBenchmark | None) -> DiversityBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = self.common(before or DiversityBenchmark())
        if self.clip_model is None:
            return benchmark
        return benchmark.replace(clip=benchmark.clip.replace(model=self.clip_model))


class DrawnDistanceForm(FitForm):
    """Distance between pictures of prompts and a reference set."""

    reference_uri: str | None = Field(
        default=None, description="Pictures to compare with: a folder, tar shards, or a manifest (path or s3:// URI)."
    )
    network_model: str | None = Field(
        default=None, description="CLIP or DINOv2 (folder or hub name); by default the published one."
    )

    def filled(self, kind: type[AnyDistance], before: AnyDistance | None) -> AnyDistance:
        """Return the benchmark with what was filled in.

        Raises:
            ValueError: There is no list of prompts, or no reference set.
        """
        if before is None and (self.prompts_uri is None or self.reference_uri is None):
            raise ValueError("expected prompts_uri and reference_uri, got none of one; fill in both boxes")
        if before is None:
            lists = (PromptList(file=PinnedFile(uri=str(self.prompts_uri))),)
            before = kind(prompts=lists, reference=ReferenceSet(uri=str(self.reference_uri)))  # type: ignore[call-arg]
        benchmark = self.common(before)
        if self.reference_uri is not None:
            benchmark = benchmark.replace(reference=benchmark.reference.replace(uri=self.reference_uri))
        if self.network_model is not None:
            benchmark = benchmark.replace(network=benchmark.network.replace(model=self.network_model))
        return benchmark


class CmmdForm(DrawnDistanceForm):
    """CMMD between pictures of prompts and a reference set."""

    def change(self, before: CmmdBenchmark | None) -> CmmdBenchmark:
        """Return the benchmark with what was filled in."""
        return self.filled(CmmdBenchmark, before)


class FdDinov2Form(DrawnDistanceForm):
    """FD-DINOv2 between pictures of prompts and a reference set."""

    def change(self, before: FdDinov2Benchmark | None) -> FdDinov2Benchmark:
        """Return the benchmark with what was filled in."""
        return self.filled(FdDinov2Benchmark, before)


class WeightsForm(FitForm):
    """Boxes of a scorer whose weights are one published file."""

    weights_uri: str | None = Field(
        default=None, description="Copy of the published weights file (path, s3:// or http URI)."
    )
    weights_sha256: str | None = Field(default=None, description="First digits of its checksum.")
    tokenizer: str | None = Field(default=None, description="Tokenizer of the prompts (folder or hub name).")

    def weights(self, before: PinnedFile) -> PinnedFile:
        """Return the weights file with what was filled in."""
        given = self.given("weights_uri", "weights_sha256")
        return before.replace(**{name.removeprefix("weights_"): value for name, value in given.items()})


class ImageRewardForm(WeightsForm):
    """ImageReward on its 100 prompts, ten pictures each."""

    def change(self, before: ImageRewardBenchmark | None) -> ImageRewardBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = self.common(before or ImageRewardBenchmark())
        network = benchmark.network.replace(weights=self.weights(benchmark.network.weights), **self.given("tokenizer"))
        return benchmark.replace(network=network)


class HpsForm(WeightsForm):
    """HPSv2 on its 3,200 prompts of four styles, one picture each."""

    version: Literal["v2.1", "v2.0"] | None = Field(default=None, description="Scores of two versions do not compare.")

    def change(self, before: HpsBenchmark | None) -> HpsBenchmark:
        """Return the benchmark with what was filled in."""
        benchmark = self.common(before or HpsBenchmark())
        network = benchmark.network.replace(**self.given("version", "tokenizer"))
        if self.weights_uri is not None or self.weights_sha256 is not None:
            network = network.replace(weights=self.weights(network.file))
        return benchmark.replace(network=network)


class Hps3Form(WeightsForm):
    """HPSv3 on HPSv2's 3,200 prompts of four styles, one picture each; the tokenizer is a Qwen2-VL's."""

    instruction_uri: str | None = Field(
        default=None, description="Copy of the published data_collator_qwen.py, which holds the instruction."
    )

    def change(self, before: Hps3Benchmark | None) -> Hps3Benchmark:
        """Return the benchmark with what was filled in."""
        benchmark = self.common(before or Hps3Benchmark())
        network = benchmark.network.replace(weights=self.weights(benchmark.network.weights))
        if self.tokenizer is not None:
            network = network.replace(base=self.tokenizer)
        if self.instruction_uri is not None:
            network = network.replace(instruction=network.instruction.replace(uri=self.instruction_uri))
        return benchmark.replace(network=network)
