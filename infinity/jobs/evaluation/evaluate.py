"""Score models in parallel: reconstruction, prediction of bits, FID, benchmarks over prompts (decisions 4 and 21)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, ClassVar, Self

from infinity import storage
from infinity.checkpoint import MARKER_FILE, CheckpointError, read_kind_and_config
from infinity.config import Config, digest_of
from infinity.data.dataset.manifest import Manifest, Split
from infinity.evaluation.benchmark import Benchmark, EvalTarget
from infinity.evaluation.contents import contents, is_current, model_digest
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.fid.distribution import DistributionBenchmark
from infinity.evaluation.fid.inception_weights import InceptionWeights, load_inception
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.preference.benchmark import ClipScoreBenchmark, HpsBenchmark, ImageRewardBenchmark
from infinity.evaluation.prompts.benchmark import PictureFolder, PromptBenchmark
from infinity.evaluation.prompts.rewriting import RewriteFile
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.score import Score
from infinity.evaluation.validation import ValidationBenchmark
from infinity.generation.pipeline import KIND, TOKENIZER_FOLDER, TOKENIZER_KIND, ModelConfig
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.connection import connect
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.evaluation.files import write_items, write_lines, write_records, write_sheets
from infinity.jobs.evaluation.origins import with_origin, with_split
from infinity.jobs.evaluation.parts import worker_pool
from infinity.jobs.evaluation.steps import Evaluation, ModelResults, compute
from infinity.jobs.ownership import owned
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit, is_done, load_report
from infinity.perception.lpips import load_lpips
from infinity.reporting.summary import Sheet
from infinity.tokenizer import TokenizerConfig

DRAWINGS_FILE, SCORES_FILE, STORE_FOLDER = "drawings.jsonl", "scores.json", "store"

BENCHMARKS_OF_PICTURES = frozenset({"geneval", "dpg", "clip_score", "image_reward", "hps"})
"""Fields of a spec whose benchmark can score pictures that were drawn elsewhere."""


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
        distribution: Settings of FID, KID, Inception Score, precision and recall, which need ``inception``.
        inception: Weights of the feature network; None reports FID and the others as not measured.
        sampling: How pictures are drawn.
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
    later: ClassVar[frozenset[str]] = frozenset({"clip_score", "image_reward", "hps", "pictures_of", "inputs"})

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
    distribution: DistributionBenchmark = field(default_factory=DistributionBenchmark)
    inception: InceptionWeights | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    batch_size: int = 32
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    seed: int = 0
    store: str | None = None
    pictures_of: str = ""
    inputs: str = ""

    def __post_init__(self) -> None:
        JobSpec.__post_init__(self)
        if self.batch_size < 1:
            raise ValueError(f"EvaluateSpec.batch_size: expected at least 1, got {self.batch_size}")
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
            StorageError: An input cannot be read.
        """
        plain = self.replace(inputs="")
        if not is_done(plain):
            return plain
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
        named: dict[str, PromptBenchmark | None] = {
            "scenes": self.scenes,
            "GenEval": self.geneval,
            "DPG-Bench": self.dpg,
            "CLIP score": self.clip_score,
            "ImageReward": self.image_reward,
            "HPSv2": self.hps,
        }
        for name, benchmark in named.items():
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


def run(spec: EvaluateSpec, *, progress: ProgressSink = silent) -> EvaluateReport:
    """Score one model; a finished spec is not computed twice.

    Raises:
        ValueError: The model or the data set cannot be used, for example because the validation split is empty.
        StorageError: A file cannot be read or written.
        WorkersError: The cluster has no room, or workers die.
    """
    (report,) = run_all([spec], progress=progress)
    return report


def run_all(specs: Sequence[EvaluateSpec], *, progress: ProgressSink = silent) -> list[EvaluateReport]:
    """Score several models together: workers load each scorer once and draw each shared picture once.

    Args:
        specs: Evaluations; finished ones are read. The first unfinished one names the workers' resources.
        progress: Called with the progress of the whole.

    Raises:
        ValueError: A model or data set cannot be used; found before any worker starts.
        StorageError: A file cannot be read or written.
        WorkersError: The cluster has no room, or workers die.
    """
    specs = [spec.located() for spec in specs]
    waiting = {storage.absolute(spec.folder): spec for spec in specs if not is_done(spec)}
    with ExitStack() as tenures:
        for _, spec in sorted(waiting.items()):  # in one order everywhere, so that no two processes wait for each other
            progress = tenures.enter_context(owned(spec, progress)).progress
        if left := [spec for spec in waiting.values() if not is_done(spec)]:
            _run_all(left, progress)
    return [load_report(spec, EvaluateReport) for spec in specs]


def _run_all(specs: Sequence[EvaluateSpec], progress: ProgressSink) -> None:
    """Score models whose folders this process owns."""
    started = time.monotonic()
    progress(Progress(0.0, "checking models and data sets"))
    evaluations = [_prepare(spec) for spec in specs]
    folders = [begin(spec) for spec in specs]
    with connect():
        progress(Progress(0.01, "starting workers"))
        with worker_pool(specs[0].workers) as workers:
            findings = compute(evaluations, workers, section(progress, 0.02, 0.98))
        # Still connected: large arrays in the states lie in Ray's shared memory.
        for spec, evaluation, folder, found in zip(specs, evaluations, folders, findings, strict=True):
            _finish(spec, evaluation, folder, found, round(time.monotonic() - started, 2))
    progress(Progress(1.0, "evaluated"))


def _prepare(spec: EvaluateSpec) -> Evaluation:
    """Check and read everything that needs no worker."""
    target = replace(
        spec.target,
        model_digest=check_model(spec.model) if spec.model else "",
        store=spec.store or storage.join(spec.output, STORE_FOLDER),
    )
    prompt_benchmarks = list(spec.prompt_benchmarks())
    items = [benchmark.items() for _, benchmark in prompt_benchmarks]
    for (_, benchmark), prompts in zip(prompt_benchmarks, items, strict=True):
        benchmark.judge_settings()  # reads the weights' digests, so that missing ones are found before hours of drawing
        if isinstance(benchmark.rewriter, RewriteFile) and benchmark.pictures is None:
            benchmark.rewriter.rewrite([item.prompt for item in prompts])  # fails if a rewriting is missing
    check_networks(spec)
    data_benchmarks = []
    if spec.manifest is not None:
        manifest = Manifest.load(spec.manifest)
        data_benchmarks = [
            (name, benchmark, benchmark.parts(target, manifest)) for name, benchmark in spec.data_benchmarks()
        ]
    return Evaluation(
        target=target,
        data_benchmarks=data_benchmarks,
        prompt_benchmarks=prompt_benchmarks,
        items=items,
        inputs=spec.contents(),
    )


def check_networks(spec: EvaluateSpec) -> None:
    """Load the networks of benchmarks on a data set once, which is cheap, so that errors appear before workers start.

    Raises:
        ValueError: Weights are missing, have another checksum, or belong to another network.
        StorageError: Weights cannot be read.
    """
    if spec.manifest is None:
        return
    if spec.inception is not None:
        load_inception(spec.inception)
    if spec.reconstruction is not None and spec.reconstruction.lpips is not None:
        load_lpips(spec.reconstruction.lpips)


def _finish(spec: EvaluateSpec, evaluation: Evaluation, folder: str, found: ModelResults, seconds: float) -> None:
    """Write all files, the report last.

    Raises:
        ValueError: An input was replaced meanwhile, so that it is unknown what was scored.
    """
    now = spec.contents()
    if changed := sorted(name for name, digest in evaluation.inputs.items() if now.get(name) != digest):
        raise ValueError(
            f"{', '.join(changed)}: changed while {spec.model or spec.pictures_of} was evaluated; run it again when "
            "nothing writes there"
        )
    results = list(found.results)
    if spec.inception is None and spec.manifest is not None:
        results = [*results, spec.distribution.not_measured()]
    origins = spec.origins(evaluation.inputs)
    on_data = sum(1 for _ in spec.data_benchmarks())
    scores = tuple(
        with_origin(with_split(score, spec.split) if number < on_data else score, origins)
        for number, result in enumerate(results)
        for score in result.scores
    )
    lines = chain.from_iterable(result.drawings for result in results)
    storage.write_text(storage.join(folder, SCORES_FILE), json.dumps([score.to_json() for score in scores], indent=2))
    report = EvaluateReport(
        model_digest=evaluation.target.model_digest,
        scores=scores,
        pictures=write_sheets(folder, results),
        records=write_records(folder, results),
        items=write_items(folder, results),
        drawings=write_lines(folder, DRAWINGS_FILE, [*found.drawings(evaluation), *lines]),
        seconds=seconds,
        inputs=dict(evaluation.inputs),
        origins=origins,
    )
    commit(spec, report)


def check_model(uri: str) -> str:
    """Check that a model folder can be used, before any worker starts; return the digest of the transformer.

    Raises:
        CheckpointError: There is no model folder, or its parts do not belong together.
    """
    kind, config = read_kind_and_config(uri)
    if kind != KIND:
        raise CheckpointError(f"{uri}: expected a model folder (a checkpoint of kind {KIND!r}), found kind {kind!r}")
    model = ModelConfig.from_json(config, where=uri)
    where = storage.join(uri, TOKENIZER_FOLDER)
    kind, config = read_kind_and_config(where)
    if kind != TOKENIZER_KIND:
        raise CheckpointError(f"{where}: expected a checkpoint of kind {TOKENIZER_KIND!r}, found kind {kind!r}")
    bits = TokenizerConfig.from_json(config, where=where).token_bits
    if bits != model.transformer.num_bits:
        raise CheckpointError(
            f"{uri}: the transformer predicts {model.transformer.num_bits} bits per token, the tokenizer in it has "
            f"{bits}; they do not belong together"
        )
    return storage.read_text(storage.join(uri, MARKER_FILE)).strip()
