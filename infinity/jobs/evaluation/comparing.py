"""Two finished evaluations side by side: the gate's report, a page with the pictures of both, the worst prompts."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from infinity import storage
from infinity.data.images.contact_sheet import compose_sheet
from infinity.evaluation.benchmark import Picture, magnification
from infinity.evaluation.promotion.gate import GateError, GateReport, compare
from infinity.evaluation.promotion.margins import GateConfig
from infinity.jobs.evaluation.results import DrawnPrompt, Evaluated
from infinity.reporting.comparison import ComparisonPage, ShownPrompt, Side, chosen, render_comparison, write_figures
from infinity.reporting.summary import Sheet

MAX_PROMPTS = 120
"""Most prompts on a page, so that the page stays a few megabytes."""
NUM_WORST = 8
SHOWN_SIDE_PX = 192


@dataclass(frozen=True, slots=True)
class ComparisonFiles:
    """URIs of the written files; the sheet of worst prompts is None where no prompt became worse."""

    html: str
    json: str
    worst: Sheet | None


def write_comparison(
    before: Evaluated,
    after: Evaluated,
    folder: str,
    *,
    titles: tuple[str, str],
    config: GateConfig,
    max_prompts: int = MAX_PROMPTS,
    only: Collection[str] | None = None,
) -> tuple[ComparisonFiles, GateReport | None, str]:
    """Compare, and write ``comparison.html``, ``comparison.json`` and ``worst.png`` into a folder.

    Args:
        before: First evaluation, such as the champion's.
        after: Second evaluation, such as the candidate's.
        folder: URI of the folder.
        titles: Names of the two, in words.
        max_prompts: Most prompts on the page.
        only: Metrics that are compared; None compares all with a margin.

    Returns:
        The files, the gate's report (None where it refuses to compare), and the reason of its refusal.

    Raises:
        StorageError: A picture is missing, or the folder cannot be written.
        ValueError: A file of an evaluation is damaged.
    """
    report, refusal = None, ""
    try:
        report = compare(before.measured, after.measured, config, only=only)
    except GateError as error:
        refusal = str(error)
    prompts = shown_prompts(before, after, config)
    page = ComparisonPage(
        before=_side(before, titles[0]),
        after=_side(after, titles[1]),
        report=report,
        refusal=refusal,
        prompts=chosen(prompts, max_prompts),
        num_prompts=len(prompts),
    )
    html, figures = (storage.join(folder, name) for name in ("comparison.html", "comparison.json"))
    storage.write_text(html, render_comparison(page))
    storage.write_text(figures, write_figures(page))
    return ComparisonFiles(html, figures, _write_worst(prompts, titles, folder)), report, refusal


def shown_prompts(before: Evaluated, after: Evaluated, config: GateConfig) -> list[ShownPrompt]:
    """Return the prompts that both evaluations drew with the same seeds, with their values by metric.

    The loss of a prompt is the largest loss of its metrics, in margins.
    """
    old_items, new_items = before.items(), after.items()
    old_drawings = {(drawn.benchmark, drawn.id): drawn for drawn in before.drawings()}
    prompts = []
    for new in after.drawings():
        old = old_drawings.get((new.benchmark, new.id))
        if old is None or old.drawn != new.drawn or old.seeds != new.seeds:
            continue
        values = [
            (metric, first, second)
            for metric in sorted(set(old_items) & set(new_items))
            if _is_about(metric, new)
            and (first := old_items[metric].get(new.id)) is not None
            and (second := new_items[metric].get(new.id)) is not None
        ]
        prompts.append(
            ShownPrompt(
                benchmark=new.benchmark,
                id=new.id,
                prompt=new.drawn,
                seeds=new.seeds,
                before=old.pictures,
                after=new.pictures,
                values=_own(values),
                loss=_loss(_own(values), config),
            )
        )
    return prompts


def _own(values: Sequence[tuple[str, float, float]]) -> tuple[tuple[str, float, float], ...]:
    """Return the values without the overall metric, which is weighted, where a task's metric has the same item."""
    tasks = tuple(value for value in values if not value[0].endswith(".overall"))
    return tasks or tuple(values)


def _loss(values: Sequence[tuple[str, float, float]], config: GateConfig) -> float:
    """Return the largest loss in margins; 0 where no metric has one."""
    losses = []
    for metric, first, second in values:
        if (margin := config.margin(metric)) is not None:
            losses.append((first - second if margin.better == "higher" else second - first) / margin.delta)
    return max(losses, default=0.0)


def _is_about(metric: str, drawn: DrawnPrompt) -> bool:
    return metric == drawn.benchmark or metric.startswith(f"{drawn.benchmark}.")


def _side(evaluated: Evaluated, title: str) -> Side:
    return Side(
        title=title,
        model=evaluated.spec.model,
        digest=evaluated.report.model_digest,
        scores=evaluated.report.scores,
        made=evaluated.made,
    )


def _write_worst(prompts: Sequence[ShownPrompt], titles: tuple[str, str], folder: str) -> Sheet | None:
    """Write the prompts with the largest losses, one per row: the first model's pictures, then the second's."""
    worst = [shown for shown in sorted(prompts, key=lambda shown: -shown.loss)[:NUM_WORST] if shown.loss > 0]
    if not worst:
        return None
    rows = [[_read(uri) for uri in (*shown.before, *shown.after)] for shown in worst]
    width = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], 255)
    cells = [picture for row in rows for picture in [*row, *[blank] * (width - len(row))]]
    uri = storage.join(folder, "worst.png")
    storage.write_bytes(uri, compose_sheet(cells, width, gap_px=4, enlarge=magnification(cells[0])))
    half = len(worst[0].before)
    return Sheet(
        image=uri,
        title=f"Prompts with the largest losses, one per row: {half} of {titles[0]}, then those of {titles[1]}",
        captions=tuple(f"{shown.prompt} ({_change(shown)})" for shown in worst),
    )


def _change(shown: ShownPrompt) -> str:
    return "; ".join(f"{metric} {first:.3g} to {second:.3g}" for metric, first, second in shown.values)


def _read(uri: str) -> Picture:
    """Return a picture, shrunk where it is larger than a sheet needs."""
    with Image.open(io.BytesIO(storage.read_bytes(uri))) as image:
        picture = image.convert("RGB")
    picture.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX))
    return np.asarray(picture)
