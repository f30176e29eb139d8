"""What does drawing with less work cost? One model, many savings: operations, bytes, and quality beside exact drawing.

Every way of saving draws the same prompts with the same seeds as exact drawing, so that differences are paired. One of
them, the control, is a planted loss: where even that is not seen, the sample is too small for any verdict.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from infinity import storage
from infinity.checkpoint import read_kind_and_config
from infinity.config import Config
from infinity.evaluation.looking_back import LookBackPart, budgets
from infinity.generation.flops import drawing_flops
from infinity.generation.memory import cache_bytes, stored_weights
from infinity.generation.pipeline import KIND, ModelConfig
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.connection import connect
from infinity.jobs.evaluation.evaluate import STORE_FOLDER, check_model, run_all
from infinity.jobs.evaluation.parts import Work, worker_pool
from infinity.jobs.evaluation.results import Evaluated, model_title
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.ownership import Tenure, owned
from infinity.jobs.progress import ProgressSink, section, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit, is_done, load_report, report_uri
from infinity.ranges import Count, Natural, NotBlank, Positive, ShareAboveZero
from infinity.reporting.scores.savings import PairedChange, SavingsPage, SavingsRow, savings_html
from infinity.scales import ScaleSchedule
from infinity.transformer.cache import CacheForm
from infinity.transformer.number_formats.quantized import WeightForm, weight_bytes

PAGE_FILE = "savings.html"
EXACT, CONTROL = "exact", "control: a planted loss"
LOSS = "validation.loss"
WATCHED_PROMPTS = 8
"""Prompts over which the attention of blocks is watched, for budgets by role."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving(Config):
    """One way to draw with less work.

    Attributes:
        name: Name in words.
        unguided: Number of last scales without classifier-free guidance, whose unconditional half they leave out.
        pruned: Share of the tokens that the last scales leave out (``SamplingConfig.pruned``).
        cache_share: Mean share of earlier tokens that blocks keep.
        by_role: Whether blocks that look back further keep more of them (``infinity.evaluation.looking_back``).
        quantize: Form of the transformer's weights; None for floating point.
        cache: Form of the cached keys and values; None for floating point.
        temperature: Temperature; None for that of exact drawing. It saves nothing, and serves as a planted loss.
    """

    name: Annotated[str, NotBlank("a name in words")]
    unguided: Natural = 0
    pruned: tuple[float, ...] = ()
    cache_share: ShareAboveZero = 1.0
    by_role: bool = False
    quantize: WeightForm | None = None
    cache: CacheForm | None = None
    temperature: Positive | None = None

    def sampling(self, exact: SamplingConfig, schedule: ScaleSchedule, look_back: Sequence[float]) -> SamplingConfig:
        """Return the settings of sampling.

        Args:
            exact: Settings of exact drawing.
            schedule: Grids of the tokens; more last scales than these are all of them.
            look_back: How far each block looks back; used by role only.
        """
        guidance = exact.guidance
        if self.unguided:
            first = max(0, schedule.num_scales - self.unguided)
            guidance = exact.guidance_at(schedule)[:first] + (1.0,) * (schedule.num_scales - first)
        by_role = self.by_role and self.cache_share < 1
        return exact.replace(
            guidance=guidance,
            pruned=self.pruned or exact.pruned,
            cache_share=budgets(look_back, self.cache_share) if by_role else self.cache_share,
            temperature=exact.temperature if self.temperature is None else self.temperature,
        )


WAYS = (
    Saving(name="no guidance in the last scale", unguided=1),
    Saving(name="no guidance in the last two scales", unguided=2),
    Saving(name="no guidance at all", unguided=99),
    Saving(name="a quarter of the last scale's tokens left out", pruned=(0.25,)),
    Saving(name="half of the last scale's tokens left out", pruned=(0.5,)),
    Saving(name="half of the earlier tokens kept", cache_share=0.5),
    Saving(name="half of the earlier tokens kept, by role", cache_share=0.5, by_role=True),
    Saving(name="a quarter of the earlier tokens kept, by role", cache_share=0.25, by_role=True),
    Saving(name="weights in int8", quantize="int8"),
    Saving(name="weights in int4", quantize="int4"),
    Saving(name="cache in int8", cache="int8"),
    Saving(
        name="no guidance in the last two scales, half of the earlier tokens by role, int8",
        unguided=2, cache_share=0.5, by_role=True, quantize="int8", cache="int8",
    ),
)  # fmt: skip
"""Ways that are tried unless others are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingsSpec(JobSpec):
    """What is tried, and how large a loss matters.

    Attributes:
        base: Evaluation of exact drawing. Benchmarks that say nothing about quality of drawings (reconstruction,
            samples) are left out; validation is scored where weights are stored otherwise.
        ways: Ways to save, each compared with exact drawing.
        metric: Name of the metric that decides; it needs one value per prompt.
        margin: Loss that matters, in the metric's unit.
        control: Temperature of the planted loss.
        text_tokens: Tokens of a caption, for the count of operations.
    """

    kind: ClassVar[str] = "savings"

    base: EvaluateSpec
    ways: tuple[Saving, ...] = WAYS
    metric: str = "scene_geneval.overall"
    margin: Positive = 0.01
    control: Positive = 4.0
    text_tokens: Count = 16

    def __post_init__(self) -> None:
        names = [EXACT, CONTROL, *(way.name for way in self.ways)]
        if len(set(names)) < len(names):
            raise ValueError(f"SavingsSpec.ways: expected each name once and none {EXACT!r}, got {names[2:]!s:.200}")
        if not self.ways:
            raise ValueError("SavingsSpec.ways: expected at least one way to save, got none")

    def points(self, schedule: ScaleSchedule, look_back: Sequence[float]) -> list[tuple[Saving, EvaluateSpec]]:
        """Return exact drawing, every way to save, and the control, each with its evaluation."""
        base = self.base.replace(
            output=self.output,
            reconstruction=None,
            samples=None,
            store=self.base.store or storage.join(self.output, STORE_FOLDER),
        )
        ways = (Saving(name=EXACT), *self.ways, Saving(name=CONTROL, temperature=self.control))
        scored = {form: base.validation for form in (None, *(way.quantize for way in ways))}
        return [
            (
                way,
                base.replace(
                    sampling=way.sampling(base.sampling, schedule, look_back),
                    quantize=way.quantize or base.quantize,
                    cache=way.cache or base.cache,
                    validation=scored.pop(way.quantize, None),
                ),
            )
            for way in ways
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingsReport(JobReport):
    """What each way saves and costs.

    Attributes:
        rows: Exact drawing first, then the ways in the order of the spec, then the control.
        look_back: How far each block looks back; empty where no way asks for it.
        page: URI of the page.
        seconds: Duration of the job.
    """

    rows: tuple[SavingsRow, ...]
    look_back: tuple[float, ...]
    page: str
    seconds: float


def run(spec: SavingsSpec, *, progress: ProgressSink = silent) -> SavingsReport:
    """Score every way; finished evaluations are read, and existing pictures are not drawn again.

    Raises:
        ValueError: An evaluation cannot be done, or the metric has no values per prompt.
        StorageError: A file cannot be read or written.
        WorkersError: The cluster has no room, or workers die.
    """
    check_model(spec.base.model)
    model = ModelConfig.from_json(read_kind_and_config(spec.base.model, kind=KIND)[1], where=spec.base.model)
    with owned(spec, progress) as tenure:
        if is_done(spec):
            report = load_report(spec, SavingsReport)
            points = spec.points(model.resolution.schedule(1.0), report.look_back)
            if all(is_done(point) and point.located() == point for _, point in points):
                return report
            storage.delete_tree(report_uri(spec))  # what it judged was replaced since
        return _run(spec, model, tenure)


def _run(spec: SavingsSpec, model: ModelConfig, tenure: Tenure) -> SavingsReport:
    started = time.monotonic()
    folder = begin(spec)
    look_back = _look_back(spec, section(tenure.progress, 0.0, 0.02))
    points = spec.points(model.resolution.schedule(1.0), look_back)
    reports = run_all([evaluation for _, evaluation in points], progress=section(tenure.progress, 0.02, 1.0))
    found = [(way, evaluation.located(), report) for (way, evaluation), report in zip(points, reports, strict=True)]
    items = [Evaluated(each.folder, each, report).items() for _, each, report in found]
    rows = [_row(spec, model, *each, values, items[0]) for each, values in zip(found, items, strict=True)]
    page = SavingsPage(model=model_title(spec.base.model), metric=spec.metric, margin=spec.margin, rows=tuple(rows))
    uri = storage.join(folder, PAGE_FILE)
    storage.write_text(uri, savings_html(page))
    seconds = round(time.monotonic() - started, 2)
    return commit(spec, SavingsReport(rows=tuple(rows), look_back=look_back, page=uri, seconds=seconds))


def _look_back(spec: SavingsSpec, progress: ProgressSink) -> tuple[float, ...]:
    """Return how far each block looks back, over some prompts of the first benchmark; empty where no way asks."""
    if not any(way.by_role and way.cache_share < 1 for way in spec.ways):
        return ()
    prompts = [item.prompt for _, benchmark in spec.base.prompt_benchmarks() for item in benchmark.items()]
    parts = [LookBackPart(prompt) for prompt in dict.fromkeys(prompts)][:: max(1, len(prompts) // WATCHED_PROMPTS)]
    with connect(), worker_pool(spec.base.workers) as workers:
        (found,) = workers.compute([Work("watching attention", spec.base.target, parts[:WATCHED_PROMPTS])], progress)
    shares: tuple[float, ...] = found.shares
    return shares


def _row(
    spec: SavingsSpec,
    model: ModelConfig,
    way: Saving,
    evaluation: EvaluateSpec,
    report: EvaluateReport,
    values: Mapping[str, Mapping[str, float | None]],
    exact: Mapping[str, Mapping[str, float | None]],
) -> SavingsRow:
    scores = {score.metric: score for score in report.scores}
    if spec.metric not in values or spec.metric not in scores:
        raise ValueError(
            f"metric: expected one with values per prompt ({', '.join(sorted(values)) or 'none'}), got {spec.metric!r}"
        )
    schedule, sampling = model.resolution.schedule(1.0), evaluation.sampling
    dtype = torch.bfloat16 if evaluation.workers.use_gpu else torch.float32
    shares = sampling.cache_shares(model.transformer.depth)
    doubled = 2 if any(factor != 1 for factor in sampling.guidance_at(schedule)) else 1
    return SavingsRow(
        name=way.name,
        is_control=way.name == CONTROL,
        flops=drawing_flops(model.transformer, schedule, sampling, spec.text_tokens),
        weight_bytes=weight_bytes(stored_weights(model.transformer, evaluation.quantize, dtype)),
        cache_bytes=doubled * cache_bytes(model.transformer, schedule, dtype, evaluation.cache, shares),
        score=scores[spec.metric],
        change=PairedChange.of(spec.metric, exact, values),
        loss=scores.get(LOSS),
        loss_change=PairedChange.of(LOSS, exact, values) if LOSS in values else None,
        evaluation=evaluation.folder,
        sampling=(found := Evaluated(evaluation.folder, evaluation, report)).sampling(),
        repeat=found.repeat,
    )
