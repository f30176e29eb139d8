"""What a stage leaves on its run page: a table of numbers, and pictures with links to the files.

Keys of artifacts stay the same from run to run, so that Prefect keeps a history of each.
"""

from collections.abc import Iterable, Mapping

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.operations.outage import until_shown
from flows.pages.dataset_page import dataset_page
from flows.pages.links import link
from flows.pages.pictures import figure, inline
from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.score import Score
from infinity.jobs.training.encode import EncodeReport
from infinity.reporting.plots.bands import judge
from infinity.reporting.scores.savings import COLUMNS, SavingsPage
from infinity.reporting.scores.sweep import SweepRow
from infinity.reporting.summary import DatasetSummary, Sheet, TrainingSummary

MAX_SHEETS = 4
"""More pictures than these make a page slow; the report has them all."""


@until_shown
def publish_dataset(stage: str, files: Mapping[str, str], summary: DatasetSummary, manifest: Manifest) -> None:
    """Publish funnel and rules as tables, and a page with all that is known of the data set and its pictures."""
    groups = {"samples": summary.counts, "split": summary.splits, "aspect ratio": summary.ratios}
    table = [
        {"what": group, "which": which, "count": count}
        for group, rows in groups.items()
        for which, count in rows.items()
    ]
    table.append({"what": "files", "which": "shards", "count": summary.num_shards})
    table.append({"what": "files", "which": "bytes", "count": summary.num_bytes})
    create_table_artifact(key=f"{stage}-numbers", table=table, description=f"What became of the pictures: {stage}")
    rules = [{"rule": rule.reason, "setting": rule.setting, "dropped": rule.dropped} for rule in summary.rules]
    if rules:
        create_table_artifact(key=f"{stage}-rules", table=rules, description=f"What each rule asked for: {stage}")
    page = dataset_page(manifest, files, summary)
    create_markdown_artifact(
        key=f"{stage}-pictures", markdown=page, description=f"Funnel, examples, quarantine, scores: {stage}"
    )


@until_shown
def publish_store(stage: str, files: Mapping[str, str], report: EncodeReport) -> None:
    """Publish how much lies in a store of latents and text features, and where its files are."""
    values = {"pictures": report.num_pictures, "bytes": report.num_bytes, "seconds": report.seconds}
    table = [{"what": name, "value": value} for name, value in values.items()]
    create_table_artifact(key=f"{stage}-numbers", table=table, description="Latents and text features, stored once")
    _publish_page(stage, files, [])


@until_shown
def publish_training(stage: str, files: Mapping[str, str], summary: TrainingSummary, notes: Iterable[str]) -> None:
    """Publish the last metrics as a table, and a page with unexpected events and samples from first to last step."""
    table: list[dict[str, str | float]] = [
        {"metric": "parameters", "value": summary.num_parameters, "judged": ""},
        {"metric": "steps", "value": summary.num_steps, "judged": ""},
    ]
    for name, value in summary.final.items():
        if ".bit_" not in name:  # the page shows them as curves
            band = judge(name, value)
            table.append({"metric": name, "value": value, "judged": f"{band.verdict}: {band.text}" if band else ""})
    create_table_artifact(key=f"{stage}-numbers", table=table, description=f"{summary.title}: last values")
    told = "".join(f"- {inline(note)}\n" for note in notes)
    text = f"## What happened on the way\n\n{told}" if told else ""
    if summary.rows:
        text = f"Rows of a sheet: {', '.join(summary.rows)}.\n\n{text}"
    _publish_page(stage, files, _spread(summary.samples, MAX_SHEETS), text)


@until_shown
def publish_evaluation(
    stage: str, files: Mapping[str, str], scores: Iterable[Score], pictures: Mapping[str, Sheet]
) -> None:
    """Scores with their sample sizes as a table; samples and reconstructions as a page."""
    table = [score_row(score) for score in scores]
    create_table_artifact(key=f"{stage}-numbers", table=table, description="Scores with sample sizes and intervals")
    _publish_page(stage, files, list(pictures.values())[:MAX_SHEETS])


@until_shown
def publish_sweep(stage: str, files: Mapping[str, str], rows: Iterable[SweepRow]) -> None:
    """Publish a table of every way of drawing with its figures, and a link to the page with the figure."""
    table = [
        {
            "guidance on": row.guidance_on,
            "strength": f"{row.strength:g}",
            "temperature": "" if row.temperature is None else f"{row.temperature:g}",
            "seed": str(row.seed),
            **{score.metric: score_row(score)["value"] for score in row.scores},
        }
        for row in rows
    ]
    create_table_artifact(key=f"{stage}-numbers", table=table, description="Ways of drawing and what they are worth")
    _publish_page(stage, files, [])


def publish_savings(stage: str, files: Mapping[str, str], page: SavingsPage) -> None:
    """Publish a table of every way to save with its price, what follows in sentences, and a link to the page."""
    table = [dict(zip(COLUMNS, row, strict=True)) for row in page.table()]
    create_table_artifact(key=f"{stage}-numbers", table=table, description="Ways to draw with less work")
    _publish_page(stage, files, [], "\n\n".join(page.summary()))


def score_row(score: Score) -> dict[str, str]:
    """Return a score for people: the value in its unit, or "not measured" with the reason."""
    interval = "" if score.low is None or score.high is None else f"{score.low:.4g} to {score.high:.4g}"
    value = "not measured" if score.value is None else f"{score.value:.4g} {score.unit}".strip()
    return {
        "metric": score.metric,
        "value": value,
        "95 % interval": interval,
        "n": str(score.n),
        "protocol": score.protocol,
        "note": score.note,
    }


def _publish_page(stage: str, files: Mapping[str, str], sheets: Iterable[Sheet], text: str = "") -> None:
    parts = [f"# {stage}", "\n".join(f"- {name}: {link(uri)}" for name, uri in files.items())]
    parts += [figure(sheet) for sheet in sheets]
    markdown = "\n\n".join(filter(None, [*parts, text])) + "\n"
    create_markdown_artifact(key=f"{stage}-pictures", markdown=markdown, description=f"Pictures and files: {stage}")


def _spread(sheets: tuple[Sheet, ...], most: int) -> list[Sheet]:
    """Return at most ``most`` sheets, evenly from the first to the last."""
    if len(sheets) <= most:
        return list(sheets)
    return [sheets[round(i * (len(sheets) - 1) / (most - 1))] for i in range(most)]
