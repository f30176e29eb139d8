"""Ways to draw with less work as a page: what each saves, and what it costs in quality beside exact drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infinity.config import Config
from infinity.evaluation.bootstrap import mean_interval
from infinity.evaluation.promotion.leaderboard import is_lower_better
from infinity.evaluation.score import Score
from infinity.reporting.comparison import number
from infinity.reporting.plots.charts import Interval, line_chart
from infinity.reporting.plots.curves import Series
from infinity.reporting.templates import rendered

Verdict = Literal["equal", "no loss", "loss", "not told"]
WORDS: dict[Verdict, str] = {
    "equal": "equal on every prompt",
    "no loss": "no loss above the margin",
    "loss": "loses quality",
    "not told": "sample too small to tell",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedChange(Config):
    """Paired difference to exact drawing over prompts or pictures, positive where this way is better.

    Attributes:
        mean: Mean difference, in the metric's unit.
        low: Lower end of its 95 % interval, by resampling; None where all differences are alike.
        high: Upper end.
        n: Number of pairs.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(
        cls,
        metric: str,
        exact: Mapping[str, Mapping[str, float | None]],
        other: Mapping[str, Mapping[str, float | None]],
    ) -> PairedChange:
        """Return the change of one metric between values by metric and prompt.

        Raises:
            ValueError: The prompts differ, or one has no value.
        """
        before, after = exact[metric], other[metric]
        sign = -1.0 if is_lower_better(metric) else 1.0
        pairs = [(before.get(name), after.get(name)) for name in sorted({*before, *after})]
        gains = [sign * (new - old) for old, new in pairs if old is not None and new is not None]
        if len(gains) < len(pairs):
            raise ValueError(f"{metric}: {len(pairs) - len(gains)} of {len(pairs)} prompts have no value in both ways")
        low, high = mean_interval(gains) or (None, None)
        return cls(mean=math.fsum(gains) / len(gains), low=low, high=high, n=len(gains))

    def verdict(self, margin: float) -> Verdict:
        """Return what is known about a loss of more than ``margin``.

        Example:
            >>> PairedChange(mean=-0.002, low=-0.008, high=0.004, n=900).verdict(0.01)
            'no loss'
            >>> PairedChange(mean=-0.05, low=-0.08, high=-0.02, n=100).verdict(0.01)
            'loss'
        """
        if self.low is None or self.high is None:
            if self.mean == 0:
                return "equal"
            return "not told" if self.n < 2 else "loss" if self.mean < -margin else "no loss"
        if self.low >= -margin:
            return "no loss"
        return "loss" if self.high < 0 else "not told"


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingsRow(Config):
    """One way of drawing.

    Attributes:
        name: Name in words.
        is_control: Whether it is the planted loss.
        flops: Operations of the transformer for one picture.
        weight_bytes: Bytes of the transformer's weights.
        cache_bytes: Bytes of the cached keys and values of one picture, with its unconditional half.
        score: Score that decides.
        change: Paired difference of the score to exact drawing.
        loss: Validation loss, where weights are stored otherwise; None where it cannot differ.
        loss_change: Paired gain in validation loss; positive where it is smaller.
        evaluation: URI of the folder of the evaluation.
        sampling: All settings of drawing in words; empty in reports of earlier versions.
        repeat: Command that measures the row again; empty in reports of earlier versions.
    """

    name: str
    is_control: bool
    flops: int
    weight_bytes: int
    cache_bytes: int
    score: Score
    change: PairedChange
    loss: Score | None
    loss_change: PairedChange | None
    evaluation: str
    sampling: str = ""
    repeat: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingsPage:
    """Everything that the page shows.

    Attributes:
        model: Name of the model, in words.
        metric: Name of the metric that decides.
        margin: Loss that matters, in the metric's unit.
        rows: Exact drawing first.
    """

    model: str
    metric: str
    margin: float
    rows: tuple[SavingsRow, ...]

    @property
    def exact(self) -> SavingsRow:
        """Exact drawing."""
        return self.rows[0]

    @property
    def control_is_seen(self) -> bool:
        """Whether the planted loss is flagged."""
        return all(row.change.verdict(self.margin) == "loss" for row in self.rows if row.is_control)

    def summary(self) -> list[str]:
        """Return what was found, in sentences."""
        ways = [row for row in self.rows[1:] if not row.is_control]
        fine = [row for row in ways if row.change.verdict(self.margin) in ("no loss", "equal")]
        lost = [row for row in ways if row.change.verdict(self.margin) == "loss"]
        told = [f"{len(lost)} of {len(ways)} ways lose quality, {len(fine)} lose at most {self.margin:g}"]
        told[0] += f", and for {len(ways) - len(lost) - len(fine)} the sample is too small to tell."
        if fine:
            best = min(fine, key=lambda row: row.flops)
            times = self.exact.flops / best.flops
            told.append(f"Fewest operations without such a loss: {best.name} ({times:.2f} × fewer than exact drawing).")
        if self.control_is_seen:
            told.append("The control, a planted loss, is flagged, so that this sample shows large losses.")
        else:
            told.append("The control, a planted loss, is NOT flagged: draw more prompts before any verdict is trusted.")
        return told

    def table(self) -> list[list[str]]:
        """Return the cells of every row."""
        return [self._cells(row) for row in self.rows]

    def _cells(self, row: SavingsRow) -> list[str]:
        exact = self.exact
        score = "not measured" if row.score.value is None else number(row.score.value)
        return [
            row.name,
            f"{row.flops / 1e9:.3g}",
            f"{exact.flops / row.flops:.2f}",
            f"{row.weight_bytes / 1e6:.3g}",
            f"{row.cache_bytes / 1e6:.3g}",
            score,
            "" if row is exact else _change(row.change),
            "" if row is exact else WORDS[row.change.verdict(self.margin)],
            "" if row.loss is None or row.loss.value is None else number(row.loss.value),
            "" if row is exact or row.loss_change is None else _change(row.loss_change),
        ]


COLUMNS = (
    "way of drawing", "GFLOP", "times fewer", "weights, MB", "cache, MB", "score", "change", "verdict",
    "validation loss", "gain in loss",
)  # fmt: skip


def savings_html(page: SavingsPage) -> str:
    """Return the page as HTML text, readable without a network."""
    shown = page.rows[1:]
    names = {float(place): str(place) for place in range(1, len(page.rows))}
    points = [
        Series(WORDS[row.change.verdict(page.margin)], ((float(place), row.change.mean),), _tone(row, page.margin))
        for place, row in enumerate(shown, start=1)
    ]
    marks = [
        Interval(float(place), row.change.low, row.change.high, _tone(row, page.margin))
        for place, row in enumerate(shown, start=1)
        if row.change.low is not None and row.change.high is not None
    ]
    title = f"change of {page.metric} to exact drawing, 95 % interval"
    return rendered(
        "savings.html.j2",
        page=page,
        columns=COLUMNS,
        chart=line_chart(points, title=title, intervals=marks, names=names),
        first=page.exact.score,
    )


def _tone(row: SavingsRow, margin: float) -> str:
    tones: dict[Verdict, str] = {"loss": "tone-2", "not told": "tone-4", "no loss": "tone-1", "equal": "tone-3"}
    return tones[row.change.verdict(margin)]


def _change(change: PairedChange) -> str:
    ends = "" if change.low is None else f" ({change.low:+.3g} to {change.high:+.3g})"
    return f"{change.mean:+.3g}{ends}"
