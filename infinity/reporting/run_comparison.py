"""Two or more runs side by side: settings that differ, data, curves, scores, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infinity.evaluation.score import Score
from infinity.reporting.comparison import number, thumbnail
from infinity.reporting.plots.charts import line_chart
from infinity.reporting.plots.curves import Points, Series
from infinity.reporting.templates import rendered

MOST_RUNS = 8
"""Runs that one page can show; there are no more colours."""
ABSENT = "–"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One run as the page shows it.

    Attributes:
        folder: URI of its folder.
        settings: Settings of all stages by their path, as texts; folders of stages are named by their kind alone.
        data: What became of the pictures, by name; empty while the data set is not there.
        curves: Metrics of each training by the name of its stage.
        scores: Scores of its evaluation; empty while there is none.
        picture: URI of its newest sheet of samples; None where there is none.
    """

    name: str
    folder: str
    settings: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, int] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Points]] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    picture: str | None = None


def different_settings(runs: Sequence[RunView]) -> list[tuple[str, ...]]:
    """Return the settings that are not the same in all runs: path, then one value per run."""
    names = sorted({name for run in runs for name in run.settings})
    rows = [(name, *(run.settings.get(name, ABSENT) for run in runs)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def data_rows(runs: Sequence[RunView]) -> list[tuple[str, ...]]:
    """Return what became of the pictures: name, then one number per run."""
    names = list(dict.fromkeys(name for run in runs for name in run.data))
    return [(name, *(f"{run.data[name]:,}" if name in run.data else ABSENT for run in runs)) for name in names]


def score_rows(runs: Sequence[RunView]) -> list[tuple[str, ...]]:
    """Return the scores by metric and protocol: figures of two protocols never stand in one row."""
    keys = list(dict.fromkeys((score.metric, score.protocol) for run in runs for score in run.scores))
    found = [{(score.metric, score.protocol): score for score in run.scores} for run in runs]
    return [(metric, *(_shown(scores.get((metric, protocol))) for scores in found)) for metric, protocol in keys]


def _shown(score: Score | None) -> str:
    if score is None or score.value is None:
        return ABSENT
    interval = "" if score.low is None or score.high is None else f" ({number(score.low)} to {number(score.high)})"
    return f"{number(score.value)}{interval}, n = {score.n:,}"


def shared_curves(runs: Sequence[RunView]) -> Iterator[tuple[str, str, list[Series]]]:
    """Yield (stage, metric, one line per run) of every metric that two runs or more have."""
    stages = list(dict.fromkeys(stage for run in runs for stage in run.curves))
    for stage in stages:
        metrics = dict.fromkeys(name for run in runs for name in run.curves.get(stage, {}) if "." not in name)
        for metric in metrics:
            lines = [
                Series(run.name, points, f"tone-{place + 1}")
                for place, run in enumerate(runs)
                if (points := run.curves.get(stage, {}).get(metric))
            ]
            if len(lines) > 1:
                yield stage, metric, lines


def check_number(runs: Sequence[object]) -> None:
    """Refuse too few or too many runs.

    Raises:
        ValueError: Fewer than two runs, or more than `MOST_RUNS`.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise ValueError(f"expected 2 to {MOST_RUNS} runs to compare, got {len(runs)}")


def render_run_comparison(runs: Sequence[RunView]) -> str:
    """Return the HTML text of the page, readable without a network.

    Raises:
        ValueError: There are fewer than two runs, or more than `MOST_RUNS`.
        StorageError: A picture cannot be read.
    """
    check_number(runs)
    charts = [
        (stage, line_chart(lines, title=f"{stage}: {metric.replace('_', ' ')}", smooth=True))
        for stage, metric, lines in shared_curves(runs)
    ]
    return rendered(
        "runs.html.j2",
        runs=runs,
        tables=(
            ("Settings that differ", different_settings(runs)),
            ("Pictures", data_rows(runs)),
            ("Scores", score_rows(runs)),
        ),
        charts=[chart for _, chart in charts],
        pictures=[(run.name, thumbnail(run.picture, max_side_px=960)) for run in runs if run.picture],
    )
