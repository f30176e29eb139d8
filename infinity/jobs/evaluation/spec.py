"""What is scored and what was found: the spec and the report of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from infinity.config import Config, digest_of
from infinity.data.dataset.manifest import Split
from infinity.evaluation.benchmark import Benchmark, EvalTarget
from infinity.evaluation.contents import check_model_files, contents, is_current, model_digest
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.fid.distribution import DistributionBenchmark
from infinity.evaluation.fid.drawn_distance import CmmdBenchmark, FdDinov2Benchmark
from infinity.evaluation.fid.inception_weights import InceptionWeights
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.judge.benchmark import JudgeBenchmark
from infinity.evaluation.preference.benchmark import ClipScoreBenchmark, HpsBenchmark, ImageRewardBenchmark
from infinity.evaluation.preference.clip_family import DiversityBenchmark, PickScoreBenchmark
from infinity.evaluation.preference.hps3 import Hps3Benchmark
from infinity.evaluation.prompts.benchmark import PictureFolder, PromptBenchmark
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.score import Score
from infinity.evaluation.t2i_compbench.benchmark import T2iCompbenchBenchmark
from infinity.evaluation.text_rendering.benchmark import TextRenderingBenchmark
from infinity.evaluation.validation import ValidationBenchmark
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.spec import JobReport, JobSpec, is_done, load_report
from infinity.ranges import Count
from infinity.reporting.summary import Sheet
from infinity.transformer.cache import CacheForm
from infinity.transformer.number_formats.quantized import WeightForm

_OVER_PROMPTS = {
    "scenes": "scenes",
    "geneval": "GenEval",
    "dpg": "DPG-Bench",
    "clip_score": "CLIP score",
    "image_reward": "ImageReward",
    "hps": "HPSv2",
    "hps3": "HPSv3",
    "pick_score": "PickScore",
    "diversity": "diversity",
    "judge": "judge",
    "text_rendering": "text rendering",
    "cmmd": "CMMD",
    "fd_dinov2": "FD-DINOv2",
    "t2i_compbench": "T2I-CompBench",
}
"""Fields of a spec whose benchmark reads prompts, and the benchmark's name in words."""

BENCHMARKS_OF_PICTURES = frozenset(_OVER_PROMPTS) - {"scenes"}
"""Fields of a spec whose benchmark can score pictures that were drawn elsewhere."""

DRAWN_BENCHMARKS = BENCHMARKS_OF_PICTURES - {"t2i_compbench"}
"""Those that draw with a model too; others read what a benchmark's own scripts wrote beside pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateSpec(JobSpec):
    """What is scored, and by which benchmarks.

    Attributes:
        model: URI of a model folder; empty where all pictures were drawn elsewhere, by ``pictures_of``.
        manifest: URI of the data set's manifest; None where no benchmark needs a data set.
        split: Split of the data set that is used; "train" is never the default, and scores on it say so.
        reconstruction: PSNR, SSIM and LPIPS of reconstructions, or None.
        validation: Loss and accuracy of predicted bits, or None.
        samples: Pictures to look at, or None.
        scenes: GenEval's six tasks over drawn scenes, or None where the model never learned scenes.
        geneval: GenEval on its official prompts, or None.
        dpg: DPG-Bench, or None.
        clip_score: CLIP score over lists of prompts, or None.
        image_reward: ImageReward on its benchmark, or None.
        hps: HPSv2 on its benchmark, or None.
        hps3: HPSv3 over lists of prompts, or None.
        pick_score: PickScore over lists of prompts, or None.
        diversity: Distance between pictures of one prompt, or None.
        judge: Questions about pictures that a vision-language model answers (GenEval 2, DSG, TIFA, TIIF, UniGenBench++,
            VQAScore), or None.
        text_rendering: Words that prompts ask for, read in the pictures by an OCR, or None.
        cmmd: CMMD between the pictures of prompts and a reference set, or None.
        fd_dinov2: FD-DINOv2 between the pictures of prompts and a reference set, or None.
        t2i_compbench: Scores that T2I-CompBench's own scripts wrote beside pictures, or None.
        distribution: Settings of FID, KID, Inception Score, precision and recall, which need ``inception``.
        inception: Weights of the feature network; None measures neither FID nor the others.
        sampling: How pictures are drawn.
        quantize: Form in which the transformer's weights are stored while it is scored; None for floating point.
        cache: Form in which drawing stores keys and values of earlier scales; None for floating point.
        batch_size: Pictures per work item.
        workers: Resources of the workers; their number changes no score.
        seed: Number from which the seed of every drawing follows.
        store: URI where pictures and verdicts are kept, shared by all evaluations that name it: existing pictures are
            not drawn again. None is the folder "store" in ``output``. Not part of the job's identity.
        pictures_of: Name of the model that drew the pictures of all benchmarks, where ``model`` is empty.
        inputs: Digest of the contents of all inputs, set by ``located`` for an evaluation beside an earlier one with
            other contents. Empty for the first.
    """

    kind: ClassVar[str] = "evaluation"
    elsewhere: ClassVar[frozenset[str]] = frozenset({"output", "workers", "store"})
    later: ClassVar[frozenset[str]] = BENCHMARKS_OF_PICTURES - {"geneval", "dpg"} | {
        "pictures_of",
        "inputs",
        "quantize",
        "cache",
    }

    model: str
    manifest: str | None = None
    split: Split = "validation"
    reconstruction: ReconstructionBenchmark | None = field(default_factory=ReconstructionBenchmark)
    validation: ValidationBenchmark | None = field(default_factory=ValidationBenchmark)
    samples: SampleBenchmark | None = field(default_factory=SampleBenchmark)
    scenes: SceneBenchmark | None = None
    geneval: GenevalBenchmark | None = None
    dpg: DpgBenchmark | None = None
    clip_score: ClipScoreBenchmark | None = None
    image_reward: ImageRewardBenchmark | None = None
    hps: HpsBenchmark | None = None
    hps3: Hps3Benchmark | None = None
    pick_score: PickScoreBenchmark | None = None
    diversity: DiversityBenchmark | None = None
    judge: JudgeBenchmark | None = None
    text_rendering: TextRenderingBenchmark | None = None
    cmmd: CmmdBenchmark | None = None
    fd_dinov2: FdDinov2Benchmark | None = None
    t2i_compbench: T2iCompbenchBenchmark | None = None
    distribution: DistributionBenchmark = field(default_factory=DistributionBenchmark)
    inception: InceptionWeights | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    quantize: WeightForm | None = None
    cache: CacheForm | None = None
    batch_size: Count = 32
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    seed: int = 0
    store: str | None = None
    pictures_of: str = ""
    inputs: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            self._check_foreign()
        on_data = [name for name, _ in self.data_benchmarks()]
        if not on_data and not list(self.prompt_benchmarks()):
            raise ValueError("EvaluateSpec: expected at least one benchmark, got none")
        if self.manifest is None and on_data:
            raise ValueError(
                f"EvaluateSpec.manifest: {', '.join(on_data)} need a data set; name its manifest, or set them to None"
            )

    def _check_foreign(self) -> None:
        drawn = [name for name, _ in self.data_benchmarks()]
        drawn += [name for name, benchmark in self.prompt_benchmarks() if benchmark.pictures is None]
        if drawn:
            raise ValueError(
                f"EvaluateSpec: {', '.join(drawn)} need a model that draws; name its folder, or, for prompts, the "
                "pictures that were drawn elsewhere"
            )
        if not self.pictures_of.strip():
            raise ValueError(
                "EvaluateSpec.pictures_of: expected the name of the model that drew the pictures, got none"
            )

    def located(self) -> Self:
        """Return the spec whose folder holds, or will hold, the evaluation of the present inputs.

        This is the spec itself, unless a finished evaluation of other contents has its folder.

        Raises:
            ConfigError: The report in the folder cannot be read.
            CheckpointError: A file of the model was replaced, so that its digest does not stand for it any more.
            StorageError: An input cannot be read.
        """
        plain = self.replace(inputs="")
        if not is_done(plain):
            return plain
        check_model_files(self.model)
        report, found = load_report(plain, EvaluateReport), plain.contents()
        digest = model_digest(self.model)
        if digest in (None, report.model_digest) and is_current(report.inputs, found, self.manifest):
            return plain
        return self.replace(inputs=digest_of([digest, found]))

    def contents(self) -> dict[str, str]:
        """Return digests of the inputs besides the model that the spec names by location only."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "workers"}
        return contents(self.manifest, {name: part for name, part in values.items() if isinstance(part, Config)})

    def origins(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Return whose pictures were drawn elsewhere, by the first part of the metrics' names."""
        found = {}
        for each in fields(self):
            pictures = getattr(getattr(self, each.name), "pictures", None)
            if isinstance(pictures, PictureFolder):
                digest = inputs.get(f"{each.name}.pictures.files", "unknown")
                found[each.name] = pictures.origin(self.pictures_of, digest)
        return found

    @property
    def target(self) -> EvalTarget:
        """The target that the workers load."""
        return EvalTarget(
            model=self.model,
            manifest=self.manifest,
            split=self.split,
            sampling=self.sampling,
            seed=self.seed,
            batch_size=self.batch_size,
            inception=self.inception,
            quantize=self.quantize,
            cache=self.cache,
            device="cuda" if self.workers.use_gpu else "cpu",
        )

    def data_benchmarks(self) -> Iterator[tuple[str, Benchmark[Any]]]:
        """Yield the benchmarks on the data set with their names in words, the longest work first."""
        if self.inception is not None:
            yield "FID", self.distribution
        named: dict[str, Benchmark[Any] | None] = {
            "samples": self.samples,
            "validation": self.validation,
            "reconstruction": self.reconstruction,
        }
        for name, benchmark in named.items():
            if benchmark is not None:
                yield name, benchmark

    def prompt_benchmarks(self) -> Iterator[tuple[str, PromptBenchmark]]:
        """Yield the benchmarks over prompts with their names in words."""
        for field_name, name in _OVER_PROMPTS.items():
            benchmark: PromptBenchmark | None = getattr(self, field_name)
            if benchmark is not None:
                yield name, benchmark


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateReport(JobReport):
    """Result of an evaluation.

    Attributes:
        model_digest: Digest of the checkpoint that was scored.
        scores: All scores with sample size and protocol; those that could not be measured say why.
        pictures: Sheets by name: "samples", "samples.<task>", "reconstructions", "worst".
        records: URIs of JSON lines files by name, for example the verdicts on all drawn scenes.
        drawings: URI of the JSON lines file with the pictures of every prompt, or None where nothing was drawn. Keys:
            benchmark (first part of the metrics' names; "samples" for captions of the data set), id (as in ``items``),
            prompt, drawn (the text, where it was rewritten), seeds (of pictures that were drawn here), pictures (URIs).
        items: URI of the JSON lines file with the value of every prompt or picture, or None where no metric has any.
            Keys: metric, id, value. The mean of a metric's values is its score; metrics that are no such mean have
            none.
        seconds: Duration of the job.
        inputs: Digests of the inputs that the spec names by location only; empty in reports of earlier versions.
        origins: Whose pictures were drawn elsewhere, by the first part of the metrics' names.
        size_px: Rows and columns of the pictures that the model draws; None without a model, and in reports of earlier
            versions.
    """

    model_digest: str
    scores: tuple[Score, ...]
    pictures: dict[str, Sheet]
    records: dict[str, str]
    items: str | None = None
    drawings: str | None = None
    seconds: float
    inputs: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    size_px: tuple[int, int] | None = None
