"""Page that compares two models: one HTML file with a slider of prompts and paired scores with intervals."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from infinity import storage
from infinity.evaluation.promotion.gate import Comparison, GateReport
from infinity.evaluation.score import Score
from infinity.reporting.templates import data_uri, rendered

MAX_SIDE_PX = 384
"""Largest side of a picture; larger ones are shrunk, so that a page with a hundred prompts can still be mailed."""
MAX_PNG_BYTES = 30_000

WORDS = {
    "better": "better",
    "passes": "not worse",
    "worse": "worse",
    "too_small": "sample too small to decide",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two models: title, model folder, digest and scores; how it drew and the command that repeats it."""

    title: str
    model: str
    digest: str
    scores: tuple[Score, ...]
    made: str = ""

    @property
    def protocols(self) -> dict[str, str]:
        """Protocol of every metric."""
        return {score.metric: score.protocol for score in self.scores}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownPrompt:
    """One prompt with the pictures of both models.

    Attributes:
        benchmark: Benchmark that the prompt comes from.
        id: Id of the prompt within the benchmark.
        prompt: Text that was drawn.
        seeds: Seeds of the pictures, the same for both models.
        before: URIs of the first model's pictures.
        after: URIs of the second model's pictures.
        values: Values as (metric, first model's value, second model's value).
        loss: Loss of the second model on this prompt, for the order.
    """

    benchmark: str
    id: str
    prompt: str
    seeds: tuple[int, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    values: tuple[tuple[str, float, float], ...]
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonPage:
    """Everything that the page says.

    Attributes:
        before: The first model, such as the champion.
        after: The second model, such as the candidate.
        report: Report of the gate, or None where it refuses to compare.
        prompts: Shown prompts in the order of the slider.
        num_prompts: Number of all prompts that could be shown.
    """

    before: Side
    after: Side
    report: GateReport | None
    refusal: str
    prompts: tuple[ShownPrompt, ...]
    num_prompts: int


def render_comparison(page: ComparisonPage) -> str:
    """Return the HTML text; pictures are read from their URIs and embedded.

    Raises:
        StorageError: A picture is missing.
    """
    return rendered(
        "comparison.html.j2",
        styles=("page.css", "comparison.css"),
        script="comparison.js",
        page=page,
        rows=[] if page.report is None else [comparison_row(comparison) for comparison in page.report.comparisons],
        others=_others(page),
        picture=thumbnail,
        number=number,
    )


def comparison_row(comparison: Comparison) -> dict[str, str]:
    """Return one metric of the gate as texts for a table."""
    return {
        "metric": comparison.metric,
        "champion": number(comparison.champion),
        "candidate": number(comparison.candidate),
        "gain": f"{comparison.gain:+.3g}",
        "interval": "unknown" if comparison.low is None else f"{comparison.low:+.3g} to {comparison.high:+.3g}",
        "noise": "unknown" if comparison.noise is None else number(comparison.noise),
        "delta": number(comparison.delta),
        "unit": comparison.unit,
        "n": f"{comparison.n:,}",
        "verdict": WORDS[comparison.verdict],
        "tone": comparison.verdict,
    }


def thumbnail(uri: str, *, max_png_bytes: int = MAX_PNG_BYTES, max_side_px: int = MAX_SIDE_PX) -> str:
    """Return a picture as ``data:`` URI: a small PNG file as it is, others as JPEG with at most ``max_side_px``."""
    data = storage.read_bytes(uri)
    with Image.open(io.BytesIO(data)) as image:
        if len(data) <= max_png_bytes and image.format == "PNG":
            return data_uri(data)
        smaller = image.convert("RGB")
    smaller.thumbnail((max_side_px, max_side_px))
    buffer = io.BytesIO()
    smaller.save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue(), "jpeg")


def chosen(prompts: Sequence[ShownPrompt], most: int) -> tuple[ShownPrompt, ...]:
    """Return at most ``most`` prompts by descending loss: the worst, the best, and some spread between them."""
    ordered = sorted(prompts, key=lambda shown: -shown.loss)
    if len(ordered) <= most:
        return tuple(ordered)
    third = most // 3
    between = ordered[third : len(ordered) - third]
    wanted = most - 2 * third
    middle = [between[number * len(between) // wanted] for number in range(wanted)]
    return (*ordered[:third], *middle, *ordered[len(ordered) - third :])


def number(value: float | None) -> str:
    """Return a number with four significant digits, a large one with all before the point; or "not measured".

    Example:
        >>> number(0.12345), number(1234567.8), number(None)
        ('0.1235', '1,234,568', 'not measured')
    """
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _others(page: ComparisonPage) -> list[dict[str, str]]:
    """Return rows for scores that are not paired; two scores share a row only under one protocol."""
    paired = set() if page.report is None else {comparison.metric for comparison in page.report.comparisons}
    before = {score.metric: score for score in page.before.scores}
    after = {score.metric: score for score in page.after.scores}
    rows = []
    for metric in [*before, *(metric for metric in after if metric not in before)]:
        if metric in paired:
            continue
        old, new = before.get(metric), after.get(metric)
        protocols = {score.protocol for score in (old, new) if score is not None}
        for protocol in sorted(protocols):
            sides = [score if score is not None and score.protocol == protocol else None for score in (old, new)]
            rows.append({"metric": metric, "protocol": protocol, **_sides(sides)})
    return rows


def _sides(sides: Sequence[Score | None]) -> dict[str, str]:
    texts = {}
    for name, score in zip(("champion", "candidate"), sides, strict=True):
        texts[name] = "" if score is None else f"{number(score.value)} {score.unit}".strip()
    return texts


def write_figures(page: ComparisonPage) -> str:
    """Return the paired scores as JSON, for scripts."""
    content = {
        "before": {"model": page.before.model, "digest": page.before.digest, "made": page.before.made},
        "after": {"model": page.after.model, "digest": page.after.digest, "made": page.after.made},
        "decision": None if page.report is None else page.report.decision,
        "cause": page.refusal if page.report is None else page.report.cause,
        "report": None if page.report is None else page.report.to_json(),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
