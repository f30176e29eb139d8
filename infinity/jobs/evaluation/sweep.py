"""Draw with one model at many settings: classifier-free guidance (CFG), temperature and seed; one table and figure.

As in Table 9 and Figure 14 of the paper, this shows the influence of the sampling alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

from infinity import storage
from infinity.config import Config
from infinity.evaluation.score import Score
from infinity.generation.sampling import PyramidGuidance, SamplingConfig
from infinity.jobs.evaluation.evaluate import STORE_FOLDER, run_all
from infinity.jobs.evaluation.results import Evaluated, model_title
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.ownership import Tenure, owned
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit, is_done, load_report, report_uri
from infinity.reporting.scores.sweep import SweepPage, SweepRow, sweep_csv, sweep_html

PAGE_FILE, TABLE_FILE = "sweep.html", "sweep.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepGrid(Config):
    """Settings that are compared: every kind of guidance at every strength, times temperatures, times seeds.

    Attributes:
        on_logits: Strengths of classifier-free guidance (CFG) on the logits; 1 is none.
        pyramid: Last strengths of guidance that grows over the scales, from 1 at the first scale.
        on_features: Strengths of guidance on the output of ``feature_blocks``.
        feature_blocks: Blocks that are guided, counted from 0, or from the end if negative.
        greedy: Whether pictures are also drawn greedily, at the strengths on logits; once, since temperatures and
            seeds have no influence then.
        temperatures: Temperatures of all but greedy sampling.
        seeds: Numbers from which the seeds of the drawings follow.
    """

    on_logits: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    pyramid: tuple[float, ...] = ()
    on_features: tuple[float, ...] = ()
    feature_blocks: tuple[int, ...] = (-1,)
    greedy: bool = False
    temperatures: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.on_logits + self.pyramid + self.on_features or not self.temperatures or not self.seeds:
            raise ValueError("SweepGrid: expected at least one strength of guidance, one temperature and one seed")
        for name in ("on_logits", "pyramid", "on_features", "temperatures", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"SweepGrid.{name}: expected each number once, got {values}")
        if self.greedy and not self.on_logits:
            raise ValueError("SweepGrid.greedy: expected strengths in on_logits, at which it is drawn, got none")

    def ways(self, base: SamplingConfig) -> Iterator[tuple[str, float, SamplingConfig]]:
        """Yield name, strength and settings of every way of sampling, apart from the seed."""
        for strength, temperature in product(self.on_logits, self.temperatures):
            yield (
                "logits",
                strength,
                base.replace(
                    guidance=strength, guide_logits=True, guided_blocks=(), temperature=temperature, greedy=False
                ),
            )
        for strength, temperature in product(self.pyramid, self.temperatures):
            yield "pyramid", strength, base.replace(
                guidance=PyramidGuidance(start=1.0, end=strength), guide_logits=True, guided_blocks=(),
                temperature=temperature, greedy=False,
            )  # fmt: skip
        for strength, temperature in product(self.on_features, self.temperatures):
            yield "features", strength, base.replace(
                guidance=strength, guide_logits=False, guided_blocks=self.feature_blocks, temperature=temperature,
                greedy=False,
            )  # fmt: skip
        for strength in self.on_logits if self.greedy else ():
            yield "greedy", strength, base.replace(guidance=strength, guide_logits=True, guided_blocks=(), greedy=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSpec(JobSpec):
    """Settings of a sweep.

    Attributes:
        base: Evaluation whose sampling and seed are replaced point by point. Benchmarks that do not depend on sampling
            (reconstruction, validation) are left out.
        metric: First part of the names of the metrics in table and figure, such as "scene_geneval".
    """

    kind: ClassVar[str] = "sweep"

    base: EvaluateSpec
    grid: SweepGrid = field(default_factory=SweepGrid)
    metric: str = "scene_geneval"

    def points(self) -> list[tuple[str, float, EvaluateSpec]]:
        """Return name of the guidance, strength, and evaluation of every point."""
        base = self.base.replace(
            output=self.output,
            reconstruction=None,
            validation=None,
            samples=None,
            store=self.base.store or storage.join(self.output, STORE_FOLDER),
        )
        return [
            (name, strength, base.replace(sampling=sampling, seed=seed))
            for name, strength, sampling in self.grid.ways(self.base.sampling)
            for seed in (self.grid.seeds[:1] if sampling.greedy else self.grid.seeds)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport(JobReport):
    """Result of a sweep.

    Attributes:
        rows: One row per point, in the order of the grid.
        page: URI of the page with table and figure.
        table: URI of the table as comma-separated values.
        seconds: Duration of the job.
    """

    rows: tuple[SweepRow, ...]
    page: str
    table: str
    seconds: float


def run(spec: SweepSpec, *, progress: ProgressSink = silent) -> SweepReport:
    """Score every point; finished points are read, and existing pictures are not drawn again.

    Raises:
        ValueError: An evaluation cannot be done, or no metric begins with ``spec.metric``.
        StorageError: A file cannot be read or written.
        WorkersError: The cluster has no room, or workers die.
    """
    points = spec.points()
    with owned(spec, progress) as tenure:
        if is_done(spec):
            if all(is_done(point) and point.located() == point for _, _, point in points):
                return load_report(spec, SweepReport)
            storage.delete_tree(report_uri(spec))  # what it judged was replaced since
        return _run(spec, points, tenure)


def _run(spec: SweepSpec, points: Sequence[tuple[str, float, EvaluateSpec]], tenure: Tenure) -> SweepReport:
    started = time.monotonic()
    folder = begin(spec)
    reports = run_all([evaluation for _, _, evaluation in points], progress=tenure.progress)
    rows = []
    for (name, strength, evaluation), report in zip(points, reports, strict=True):
        scores = tuple(score for score in report.scores if _is_wanted(score, spec.metric))
        if not scores:
            found = ", ".join(score.metric for score in report.scores)
            raise ValueError(f"metric: expected metrics that begin with {spec.metric!r}, the evaluation has {found}")
        rows.append(
            SweepRow(
                guidance_on=name,
                strength=strength,
                temperature=None if evaluation.sampling.greedy else _number(evaluation.sampling.temperature),
                seed=evaluation.seed,
                scores=scores,
                sampling=(scored := Evaluated(evaluation.located().folder, evaluation, report)).sampling(),
                repeat=scored.repeat,
            )
        )
    page = SweepPage(model=model_title(spec.base.model), metric=spec.metric, rows=tuple(rows))
    uris = [storage.join(folder, name) for name in (PAGE_FILE, TABLE_FILE)]
    storage.write_text(uris[0], sweep_html(page))
    storage.write_text(uris[1], sweep_csv(page))
    return commit(
        spec,
        SweepReport(rows=tuple(rows), page=uris[0], table=uris[1], seconds=round(time.monotonic() - started, 2)),
    )


def _is_wanted(score: Score, metric: str) -> bool:
    return score.metric == metric or score.metric.startswith(f"{metric}.")


def _number(temperature: float | tuple[float, ...]) -> float:
    return temperature if isinstance(temperature, float) else temperature[-1]
