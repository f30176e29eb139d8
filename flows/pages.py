"""What a stage leaves on its run page: a table of numbers, and pictures with links to the files.

Keys of artifacts stay the same from run to run, so that Prefect keeps a history of each.
"""

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.pictures import figure, inline
from infinity import storage
from infinity.data.histograms import Histogram
from infinity.evaluation.score import Score
from infinity.reporting.summary import DatasetSummary, Sheet, TrainingSummary
from infinity.reporting.sweep import SweepRow
from infra.settings import settings

_BARS = "▁▂▃▄▅▆▇█"

MAX_SHEETS = 4
"""More pictures than these make a page slow; the report has them all."""


def publish_dataset(stage: str, files: Mapping[str, str], summary: DatasetSummary) -> None:
    """Funnel and rules as tables; thumbnails, spread of scores, examples for each reason and captions as a page."""
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
    sheets = [] if summary.thumbnails is None else [Sheet(image=summary.thumbnails, title="Pictures of the dataset")]
    _publish_page(stage, files, sheets, "\n".join(_dataset_text(summary)))


def _dataset_text(summary: DatasetSummary) -> Iterator[str]:
    if spread := [histogram for histogram in summary.histograms if sum(histogram.counts)]:
        yield "## How scores are spread\n\n| score | from | | to | kept |\n|---|---|---|---|---|"
        for histogram in spread:
            low, high, bars = outline(histogram)
            kept = " and ".join(
                f"{sign} {limit:g}"
                for sign, limit in (("≥", histogram.minimum), ("≤", histogram.maximum))
                if limit is not None
            )
            yield f"| {histogram.score} | {low:.4g} | `{bars}` | {high:.4g} | {kept or 'all'} |"
        yield ""
    if summary.examples:
        yield "## Left out, for example\n"
        for reason, examples in summary.examples.items():
            yield f"**{inline(reason)}**\n"
            yield from (f"- {inline(example)}" for example in examples)
            yield ""
    if summary.caption_examples:
        yield "## Captions\n"
        yield from (f"- {inline(caption)}" for caption in summary.caption_examples)


def outline(histogram: Histogram) -> tuple[float, float, str]:
    """Lower border of the first bin that holds anything, upper border of the last, and the bins between as bars.

    The tallest bar is the fullest bin; a dot is an empty one, and any picture at all shows as the lowest bar.
    """
    filled = [place for place, count in enumerate(histogram.counts) if count]
    first, last = filled[0], filled[-1]
    most = max(histogram.counts)
    bars = "".join(
        "·" if not count else _BARS[min(len(_BARS) - 1, count * len(_BARS) // (most + 1))]
        for count in histogram.counts[first : last + 1]
    )
    return histogram.edges[first], histogram.edges[last + 1], bars


def publish_training(stage: str, files: Mapping[str, str], summary: TrainingSummary, notes: Iterable[str]) -> None:
    """The last metrics as a table; what should not have happened, and samples from first to last step, as a page."""
    table: list[dict[str, str | float]] = [
        {"metric": "parameters", "value": summary.num_parameters},
        {"metric": "steps", "value": summary.num_steps},
    ]
    table += [{"metric": name, "value": value} for name, value in summary.final.items()]
    create_table_artifact(key=f"{stage}-numbers", table=table, description=f"{summary.title}: last values")
    told = "".join(f"- {inline(note)}\n" for note in notes)
    text = f"## What happened on the way\n\n{told}" if told else ""
    _publish_page(stage, files, _spread(summary.samples, MAX_SHEETS), text)


def publish_evaluation(
    stage: str, files: Mapping[str, str], scores: Iterable[Score], pictures: Mapping[str, Sheet]
) -> None:
    """Scores with their sample sizes as a table; samples and reconstructions as a page."""
    table = [score_row(score) for score in scores]
    create_table_artifact(key=f"{stage}-numbers", table=table, description="Scores with sample sizes and intervals")
    _publish_page(stage, files, list(pictures.values())[:MAX_SHEETS])


def publish_sweep(stage: str, files: Mapping[str, str], rows: Iterable[SweepRow]) -> None:
    """Every way of drawing with its figures as a table; where the page with the figure lies."""
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


def publish_run(files: Mapping[str, str], scores: Iterable[Score], seconds: Mapping[str, float]) -> None:
    """The last page of an end-to-end run: where the report is, the scores, and how the time divides."""
    lines = ["# Report", "", *(f"- {name}: {link(uri)}" for name, uri in files.items()), "", "## Scores", ""]
    lines += ["| metric | value | n |", "|---|---|---|"]
    for row in map(score_row, scores):
        lines.append(f"| {row['metric']} | {inline(row['value'])} | {row['n']} |")
    lines += ["", "## Seconds", "", "| stage | seconds |", "|---|---|"]
    lines += [f"| {stage} | {value:.1f} |" for stage, value in seconds.items()]
    create_markdown_artifact(key="report", markdown="\n".join(lines) + "\n", description="Report of the run")


def score_row(score: Score) -> dict[str, str]:
    """A score for people: the value in its unit, or "not measured" with the reason."""
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


def link(uri: str) -> str:
    """Markdown that leads to a file where a browser can follow, and names its place where it cannot."""
    base, path = settings().files_url, storage.local_path(uri)
    runs = storage.local_path(settings().runs)
    if base is not None and path is not None and runs is not None and path.resolve().is_relative_to(runs.resolve()):
        address = f"{base}/{quote(path.resolve().relative_to(runs.resolve()).as_posix())}"
        return f"[{inline(uri)}]({address})"
    return f"`{uri}`"


def _publish_page(stage: str, files: Mapping[str, str], sheets: Iterable[Sheet], text: str = "") -> None:
    parts = [f"# {stage}", "\n".join(f"- {name}: {link(uri)}" for name, uri in files.items())]
    parts += [figure(sheet) for sheet in sheets]
    markdown = "\n\n".join(filter(None, [*parts, text])) + "\n"
    create_markdown_artifact(key=f"{stage}-pictures", markdown=markdown, description=f"Pictures and files: {stage}")


def _spread(sheets: tuple[Sheet, ...], most: int) -> list[Sheet]:
    """At most so many sheets, evenly from the first to the last."""
    if len(sheets) <= most:
        return list(sheets)
    return [sheets[round(i * (len(sheets) - 1) / (most - 1))] for i in range(most)]
