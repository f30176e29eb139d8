"""The result of a study: its records, and a page with figure, table, verdict and the paper's figures beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from infinity.config import Config
from infinity.reporting.comparison import number
from infinity.reporting.plots.charts import Interval, line_chart
from infinity.reporting.plots.curves import Series
from infinity.reporting.templates import rendered

LOG_RATIO = 30.0
"""Ratio of the largest value of a figure to the smallest above which its axis is logarithmic."""

Verdict = Literal["holds", "does not hold", "not told apart", "not run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperFigure(Config):
    """A figure that the paper prints.

    Attributes:
        arm: What it is a figure of; the name of our arm where there is one.
        metric: Metric in the paper's words.
        value: Printed number; None where it prints that the run was out of memory.
        ours: Our metric that is set beside it; empty for the metric of the study's figure.
    """

    arm: str
    metric: str
    value: float | None
    source: str
    ours: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRow(Config):
    """One arm with one seed.

    Attributes:
        values: Value of every metric that was measured.
        note: Why there are no values; empty where there are.
        seconds: Duration of the arm's own jobs, without those that several arms share.
    """

    arm: str
    seed: int
    values: dict[str, float]
    note: str = ""
    seconds: float = 0.0
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastResult(Config):
    """A contrast with its verdict.

    Attributes:
        name: What is compared.
        rule: Rule that was written down before.
        per_seed: Value per seed.
        mean: Mean over seeds; None without a complete seed.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        sign_p: One-sided p of the sign test over seeds.
        why: Reason of the verdict in words.
    """

    name: str
    rule: str
    per_seed: dict[str, float]
    mean: float | None
    low: float | None
    high: float | None
    sign_p: float | None
    verdict: Verdict
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost(Config):
    """Cost of a study.

    Attributes:
        estimated_s: Seconds that were estimated before, for all jobs that were not done.
        spent_s: Seconds that this run of the study took.
        jobs_s: Seconds of all jobs together, also those that earlier runs did.
        num_jobs: Number of jobs.
        processor_s: Processor seconds of all jobs together, where they ran in the process of the study; None elsewhere.
    """

    estimated_s: float | None
    spent_s: float
    jobs_s: float
    num_jobs: int
    num_done_before: int
    processor_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult(Config):
    """Result of a study, as its JSON file holds it.

    Attributes:
        name: Slug of the study.
        source: Table or figure of the paper.
        size: Size of the trainings, or "finished models".
        verdict: Verdict about the claim; "not run" where jobs were left out, and no contrast has a seed.
        reason: Likely reason, where the claim does not hold or is not told apart.
        rows: Values of every arm and seed.
        places: Place of the arms on the x axis.
        x_title: What the x axis shows.
        notes: Sentences about what a reader must know, such as a budget that ended the study.
    """

    name: str
    number: int
    title: str
    claim: str
    source: str
    size: str
    seeds: tuple[int, ...]
    metric: str
    verdict: Verdict
    reason: str
    contrasts: tuple[ContrastResult, ...]
    rows: tuple[StudyRow, ...]
    paper: tuple[PaperFigure, ...]
    cost: Cost
    places: dict[str, float] = field(default_factory=dict)
    x_title: str = ""
    notes: tuple[str, ...] = ()

    @property
    def complete_seeds(self) -> int:
        """Number of seeds in which every contrast has its value."""
        return min((len(each.per_seed) for each in self.contrasts), default=0)

    @property
    def arms(self) -> list[str]:
        """Names of the arms in order."""
        return list(dict.fromkeys(row.arm for row in self.rows))


def study_html(result: StudyResult, summaries: Mapping[str, Mapping[str, tuple[float, float | None, int]]]) -> str:
    """Return the page of a study, readable without a network.

    Args:
        summaries: By metric and arm the mean, half of the interval's width, and the number of seeds.
    """
    return rendered(
        "study.html.j2",
        result=result,
        chart=_chart(result, summaries.get(result.metric, {})),
        metrics=list(summaries),
        table=[[arm, *(_cell(summaries[metric].get(arm)) for metric in summaries)] for arm in result.arms],
        contrasts=[_contrast(each) for each in result.contrasts],
        paper=_beside(result, summaries),
    )


def studies_html(results: Sequence[tuple[StudyResult, str]]) -> str:
    """Return the page with the verdicts of several studies; each comes with the address of its own page."""
    not_run = sum(result.verdict == "not run" for result, _ in results)
    return rendered("studies.html.j2", results=results, num_not_run=not_run)


def _chart(result: StudyResult, summary: Mapping[str, tuple[float, float | None, int]]) -> Markup:
    """Return the figure: lines over the arms' places, or over their names where they have none.

    There is a line per seed; where arms share a place, such as those of
    two quantizers, one per seed and first word of the arm's name. Vertical marks are the 95 % intervals of the arms'
    means over seeds.
    """
    places = result.places or {arm: float(place) for place, arm in enumerate(result.arms, start=1)}
    shares = len(set(places.values())) < len(places)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row.arm in places and result.metric in row.values:
            name = f"{row.arm.split()[0]}, seed {row.seed}" if shares else f"seed {row.seed}"
            points.setdefault(name, []).append((places[row.arm], row.values[result.metric]))
    if not points:
        return Markup("")
    lines = [
        Series(name, tuple(sorted(line)), f"tone-{tone % 8 + 1}") for tone, (name, line) in enumerate(points.items())
    ]
    values = [y for line in lines for _, y in line.points]
    return line_chart(
        lines,
        title=f"{result.metric} over {result.x_title}" if result.places else f"{result.metric} of every arm",
        names={} if result.places else {place: arm for arm, place in places.items()},
        log=min(values) > 0 and max(values) > LOG_RATIO * min(values),
        intervals=[
            Interval(places[arm], mean - half, mean + half, "tone-8")
            for arm, (mean, half, _) in summary.items()
            if arm in places and half is not None
        ],
    )


def _cell(summary: tuple[float, float | None, int] | None) -> str:
    if summary is None:
        return "not measured"
    mean, half, seeds = summary
    if half is None:
        return f"{number(mean)} (n = {seeds})"
    shown, spread = rounded(half, mean, half)
    return f"{shown} ± {spread} (n = {seeds})"


def rounded(half: float, *values: float) -> list[str]:
    """Return values with as many digits as say something: two of half of their interval's width.

    Example:
        >>> rounded(0.025, -0.032407, -0.057366)
        ['-0.032', '-0.057']
    """
    if not 1e-4 < half < 1e4:
        return [number(value) for value in values]
    digits = max(0, 1 - math.floor(math.log10(half)))
    return [f"{value:.{digits}f}" for value in values]


def _contrast(each: ContrastResult) -> list[str]:
    measured = mean_with_interval(each)
    sign = "" if each.sign_p is None else f"{each.sign_p:.3g}"
    return [each.name, each.rule, measured, sign, each.verdict, each.why]


def mean_with_interval(each: ContrastResult) -> str:
    """Return the mean of a contrast with its interval, or that no seed has all arms."""
    if each.mean is None:
        return "no complete seed"
    if each.low is None or each.high is None or each.low == each.high:
        return number(each.mean)
    mean, low, high = rounded((each.high - each.low) / 2, each.mean, each.low, each.high)
    return f"{mean} ({low} to {high})"


def _beside(
    result: StudyResult, summaries: Mapping[str, Mapping[str, tuple[float, float | None, int]]]
) -> list[list[str]]:
    """Return the paper's figures, each beside ours where an arm has its name."""
    return [
        [
            figure.arm,
            figure.metric,
            "out of memory" if figure.value is None else f"{figure.value:g}",
            figure.source,
            _ours(figure, figure.ours or result.metric, summaries),
        ]
        for figure in result.paper
    ]


def _ours(
    figure: PaperFigure, metric: str, summaries: Mapping[str, Mapping[str, tuple[float, float | None, int]]]
) -> str:
    ours = summaries.get(metric, {})
    return f"{metric} {_cell(ours[figure.arm])}" if figure.arm in ours else "no such arm here"
