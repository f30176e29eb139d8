"""A sweep over sampling settings as a page with one figure and one table, and as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from infinity.config import Config
from infinity.evaluation.score import Score
from infinity.reporting.comparison import number
from infinity.reporting.plots.charts import Interval, line_chart
from infinity.reporting.plots.curves import Series
from infinity.reporting.scores.best_way import Way, best_way
from infinity.reporting.scores.exports import harmless
from infinity.reporting.templates import rendered


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRow(Config):
    """One choice of sampling settings with its scores.

    Attributes:
        guidance_on: "logits", "pyramid", "features" or "greedy".
        strength: Strength of the guidance; for a pyramid, the strength at the last scale.
        temperature: Temperature; None for greedy sampling.
        scores: Scores of the settings; the first one is shown in the figure.
        sampling: All settings of drawing in words; empty in reports of earlier versions.
        repeat: Command that measures the row again; empty in reports of earlier versions.
    """

    guidance_on: str
    strength: float
    temperature: float | None
    seed: int
    scores: tuple[Score, ...]
    sampling: str = ""
    repeat: str = ""

    def __post_init__(self) -> None:
        if not self.scores:
            raise ValueError("SweepRow: expected at least one score, got none")

    @property
    def line(self) -> str:
        """Name of the row's line in the figure."""
        return (
            self.guidance_on if self.temperature is None else f"{self.guidance_on}, temperature {self.temperature:.12g}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPage:
    """Everything that the page shows.

    Attributes:
        model: Name of the model, in words.
    """

    model: str
    metric: str
    rows: tuple[SweepRow, ...]

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in the order of the rows."""
        return list(dict.fromkeys(score.metric for row in self.rows for score in row.scores))

    @property
    def shown(self) -> str:
        """Metric that the figure shows: the overall one if there is one."""
        overall = f"{self.metric}.overall"
        return overall if overall in self.metrics else self.metrics[0]


def sweep_html(page: SweepPage) -> str:
    """Return the page as HTML text, readable without a network."""
    lines = _lines(page)
    first = next(score for row in page.rows for score in row.scores if score.metric == page.shown)
    return rendered(
        "sweep.html.j2",
        page=page,
        chart=line_chart(lines, title=f"{page.shown} over strength of guidance", intervals=_intervals(page, lines)),
        best=best_sentence(page),
        first=first,
        table=[[*_ways(row), *(_cell(row, metric) for metric in page.metrics)] for row in page.rows],
    )


def best_sentence(page: SweepPage) -> str:
    """Return a sentence with the best settings by the mean over seeds, and those that may be as good."""
    return best_way(_ways_of(page), page.shown)


def sweep_csv(page: SweepPage) -> str:
    """Return one line per point; every score with its interval and sample size."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    sides = [f"{metric}{side}" for metric in page.metrics for side in ("", ".low", ".high", ".n", ".unit", ".protocol")]
    writer.writerow(["guidance_on", "strength", "temperature", "seed", *sides, "sampling", "repeat"])
    for row in page.rows:
        scores = {score.metric: score for score in row.scores}
        cells: list[object] = []
        for metric in page.metrics:
            score = scores.get(metric)
            cells += _figures(score)
        about = [harmless(row.sampling), harmless(row.repeat)]
        writer.writerow([row.guidance_on, row.strength, row.temperature, row.seed, *cells, *about])
    return buffer.getvalue()


def _figures(score: Score | None) -> list[object]:
    if score is None:
        return [""] * 6
    return [score.value, score.low, score.high, score.n, score.unit, harmless(score.protocol)]


def _lines(page: SweepPage) -> list[Series]:
    """Return the mean over seeds at every strength, one line per kind of guidance and temperature."""
    points: dict[str, dict[float, list[float]]] = {}
    for row in page.rows:
        if (value := _value(row, page.shown)) is not None:
            points.setdefault(row.line, {}).setdefault(row.strength, []).append(value)
    return [
        Series(name, tuple((x, sum(ys) / len(ys)) for x, ys in sorted(line.items())), f"tone-{place % 8 + 1}")
        for place, (name, line) in enumerate(points.items())
    ]


def _intervals(page: SweepPage, lines: Sequence[Series]) -> list[Interval]:
    """Return the 95 % interval of every point of the figure that has one."""
    tones = {line.label: line.tone for line in lines}
    points: dict[tuple[str, float], list[Score]] = {}
    for row in page.rows:
        scores = [score for score in row.scores if score.metric == page.shown and score.value is not None]
        points.setdefault((row.line, row.strength), []).extend(scores)
    found = {place: Way(name=place[0], scores=tuple(scores)) for place, scores in points.items() if scores}
    return [
        Interval(strength, way.mean - way.half_width, way.mean + way.half_width, tones[name])
        for (name, strength), way in found.items()
        if way.half_width is not None
    ]


def _ways_of(page: SweepPage) -> list[Way]:
    """Return every kind of guidance at every strength and temperature, with the measured scores of its seeds."""
    found: dict[str, list[Score]] = {}
    for row in page.rows:
        scores = found.setdefault(f"guidance on {row.line}, strength {row.strength:.12g}", [])
        scores += [score for score in row.scores if score.metric == page.shown and score.value is not None]
    return [Way(name=name, scores=tuple(scores)) for name, scores in found.items()]


def _value(row: SweepRow, metric: str) -> float | None:
    return next((s.value for s in row.scores if s.metric == metric and s.value is not None), None)


def _ways(row: SweepRow) -> Sequence[str]:
    temperature = "" if row.temperature is None else f"{row.temperature:.12g}"
    return (row.guidance_on, f"{row.strength:.12g}", temperature, str(row.seed))


def _cell(row: SweepRow, metric: str) -> str:
    score = next((s for s in row.scores if s.metric == metric), None)
    if score is None or score.value is None:
        return "not measured"
    return number(score.value) + ("" if score.low is None else f" ({number(score.low)} to {number(score.high)})")
