"""The page of a run: one HTML file with everything embedded, readable without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from infinity import storage
from infinity.evaluation.score import Score
from infinity.reporting.plots.bands import judge
from infinity.reporting.plots.beside_recipe import BesideRecipe, beside_recipe
from infinity.reporting.plots.charts import interval, line_chart
from infinity.reporting.plots.curves import Points, Series, last, per_bit, per_scale, read_curves
from infinity.reporting.summary import DatasetSummary, RunSummary, TrainingSummary
from infinity.reporting.templates import data_uri, rendered

_TONES = 8


@dataclass(frozen=True, slots=True)
class _Chart:
    """How a metric of the training log is drawn; a metric that was not logged has no chart."""

    metric: str
    title: str
    unit: str = ""
    log: bool = False
    smooth: bool = False
    by_scale: bool = False
    by_bit: bool = False


_CHARTS = (
    _Chart("loss", "loss", smooth=True, log=True),
    _Chart("reconstruction", "reconstruction loss", smooth=True, log=True),
    _Chart("psnr_db", "reconstruction PSNR", unit="dB", smooth=True),
    _Chart("truncated_psnr_db", "PSNR of truncated pyramids", unit="dB", smooth=True),
    _Chart("lpips", "LPIPS distance", smooth=True),
    _Chart("discriminator", "loss of the discriminator", smooth=True),
    _Chart("adversarial", "adversarial term of the tokenizer, unweighted", smooth=True),
    _Chart("bit_accuracy", "bit accuracy", smooth=True),
    _Chart("token_accuracy", "token accuracy (all bits right)", smooth=True),
    _Chart("bit_accuracy", "bit accuracy by scale", smooth=True, by_scale=True),
    _Chart("token_accuracy", "token accuracy by scale", smooth=True, by_scale=True),
    _Chart("bit_accuracy", "bit accuracy by bit, at the end", by_bit=True),
    _Chart("bit_entropy", "entropy of a bit over the batch", unit="bit", smooth=True),
    _Chart("bit_entropy", "entropy of a bit by scale", unit="bit", smooth=True, by_scale=True),
    _Chart("bit_entropy", "entropy by bit, at the end", unit="bit", by_bit=True),
    _Chart("grad_norm", "gradient norm", smooth=True, log=True),
    _Chart("learning_rate", "learning rate"),
    _Chart("pictures_per_s", "training speed", unit="pictures/s", smooth=True),
    _Chart("tokens_per_s", "image tokens", unit="tokens/s", smooth=True),
    _Chart("data_wait_share", "share of the time spent waiting for data", smooth=True),
    _Chart("mfu", "share of the GPU's operations (MFU)", smooth=True),
    _Chart("memory_mib", "most memory so far", unit="MiB"),
)


def render_page(run: RunSummary) -> str:
    """Return the HTML text of a run; pictures are read from their URIs and embedded.

    Raises:
        StorageError: A picture or a training log that the summary names is missing.
    """
    return _render(
        "page.html.j2",
        run=run,
        cards=_cards(run),
        funnel=_funnel(run.dataset),
        balance=_balance(run.dataset),
        trainings=[_training(training) for training in run.trainings],
        scores=[_score_row(score) for score in run.scores],
        total_seconds=sum(stage.seconds for stage in run.stages),
        pretty=lambda settings: json.dumps(settings, indent=2, ensure_ascii=False),
    )


def render_training(training: TrainingSummary, about: str, notes: Iterable[str] = ()) -> str:
    """Return the HTML text of one training.

    Args:
        training: Summary of the training so far.
        about: Sentence on where this training comes from.
        notes: Warnings, one sentence each.

    Raises:
        StorageError: A picture or the training log is missing.
    """
    return _render("training.html.j2", training=_training(training), about=about, notes=tuple(notes))


def _render(name: str, **values: Any) -> str:
    return rendered(name, picture=lambda uri: data_uri(storage.read_bytes(uri)), **values)


def _cards(run: RunSummary) -> list[dict[str, str]]:
    scores = {score.metric: score for score in run.scores}
    counts = run.dataset.counts
    cards = [{"label": "pictures", "value": f"{counts['kept']:,}", "hint": f"kept of {counts['read']:,} read"}]
    wanted = {
        "reconstruction.psnr_db": "reconstruction",
        "bit_accuracy.mean": "bit accuracy",
        "scene_geneval.overall": "scene-GenEval",
        "rfid": "rFID",
        "fid": "FID",
    }
    for metric, label in wanted.items():
        if (score := scores.get(metric)) is not None and score.value is not None:
            unit = f" {score.unit}" if score.unit == "dB" else ""
            cards.append({"label": label, "value": f"{_number(score.value)}{unit}", "hint": f"n = {score.n:,}"})
    seconds = sum(stage.seconds for stage in run.stages)
    cards.append({"label": "computing time", "value": f"{seconds / 60:.1f} min", "hint": f"{len(run.stages)} stages"})
    return cards


def _funnel(dataset: DatasetSummary) -> list[dict[str, Any]]:
    counts, read = dataset.counts, max(1, dataset.counts["read"])
    rows = [("read", counts["read"], "")]
    if counts.get("unreadable"):
        rows.append(("unreadable", counts["unreadable"], "dropped"))
    prefix = "dropped_"
    rows += [
        (f"dropped: {name.removeprefix(prefix).replace('_', ' ')}", count, "dropped")
        for name, count in sorted(counts.items(), key=lambda item: -item[1])
        if name.startswith(prefix) and count
    ]
    rows.append(("kept", counts["kept"], ""))
    return [{"label": label, "count": f"{count:,}", "share": count / read, "tone": tone} for label, count, tone in rows]


def _balance(dataset: DatasetSummary) -> str:
    counts = dataset.counts
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped_"))
    return f"{counts['read']:,} = {counts['kept']:,} + {dropped:,} + {counts.get('unreadable', 0):,}"


def _training(training: TrainingSummary) -> dict[str, Any]:
    curves = read_curves(training.metrics)
    recipe = beside_recipe(training.metrics, curves)
    prompts = next((sheet.captions for sheet in training.samples if sheet.captions), ())
    return {
        "title": training.title,
        "num_parameters": training.num_parameters,
        "num_steps": training.num_steps,
        "charts": [drawn for chart in _CHARTS if (drawn := _draw(chart, curves, recipe)) is not None],
        "recipe": recipe,
        "judged": judged(training.final),
        "samples": training.samples,
        "rows": training.rows,
        "prompts": prompts,
    }


def judged(final: Mapping[str, float]) -> list[dict[str, str]]:
    """Return the metrics that have bands, with their verdict and its meaning."""
    found = ((name, value, judge(name, value)) for name, value in final.items())
    return [
        {"metric": name.replace("_", " "), "value": _number(value), "verdict": band.verdict, "text": band.text}
        for name, value, band in found
        if band is not None
    ]


def _draw(chart: _Chart, curves: dict[str, Points], recipe: BesideRecipe | None) -> Markup | None:
    ribbon = None
    if chart.by_scale:
        lines = [
            Series(f"scale {k + 1}", points, f"tone-{k % _TONES + 1}")
            for k, points in enumerate(per_scale(curves, chart.metric))
        ]
    elif chart.by_bit:
        lasts = [last(points) for points in per_bit(curves, chart.metric)]
        lines = [Series(chart.metric, tuple((float(bit + 1), value) for bit, value in enumerate(lasts)))]
    else:
        lines = [Series(chart.metric, curves[chart.metric])] if chart.metric in curves else []
        ribbon = recipe.ribbons.get(chart.metric) if recipe is not None else None
    if not any(line.points for line in lines):
        return None
    behind = [] if ribbon is None else ribbon.values
    positive = all(y > 0 for y in (*behind, *(y for line in lines for _, y in line.points)))
    log = chart.log and positive
    smooth = chart.smooth and ribbon is None  # a running mean lags, and would leave a range that its values keep
    return line_chart(lines, title=chart.title, unit=chart.unit, log=log, smooth=smooth, ribbon=ribbon)


def _score_row(score: Score) -> dict[str, Any]:
    measured = score.value is not None
    known = score.low is not None and score.high is not None
    return {
        "metric": score.metric,
        "value": f"{_number(score.value)} {'' if score.unit == 'share' else score.unit}".strip()
        if measured
        else "not measured",
        "mark": interval(score.value, score.low, score.high)
        if score.value is not None and score.unit == "share"
        else "",
        "interval": f"{_number(score.low)} – {_number(score.high)}" if known else "",
        "n": f"{score.n:,}" if measured else "",
        "protocol": score.protocol,
        "note": score.note,
    }


def _number(value: float | None) -> str:
    assert value is not None
    return f"{value:.4g}" if abs(value) < 10 else f"{value:.2f}".rstrip("0").rstrip(".")
