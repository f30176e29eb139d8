"""The one page of a finished run: scores, cost, funnel, curves, pictures over time, warnings, lineage, commands."""

from collections.abc import Iterator, Mapping, Sequence

from prefect.artifacts import create_markdown_artifact

from flows.operations.outage import until_shown
from flows.pages.links import link, verbatim
from flows.pages.live import course
from flows.pages.pictures import figure, inline
from flows.pages.results import score_row
from infinity.recipes.runs import EndToEnd
from infinity.reporting.plots.curves import read_curves
from infinity.reporting.summary import RunSummary, TrainingSummary
from infra.settings import settings

THUMBNAIL_BYTES = 6_000
"""Pages of the stages show the pictures larger."""
CURVES = 6
"""Metrics of a training whose course is shown; the report has all."""


@until_shown
def publish_run(files: Mapping[str, str], summary: RunSummary, plan: EndToEnd) -> None:
    """Publish the page of a run, in the order in which questions are asked.

    Args:
        files: URIs of the report and its figures, by name.
        summary: Everything that the report says.
        plan: Specs of the stages.
    """
    page = "\n\n".join(_page(files, summary, plan)) + "\n"
    create_markdown_artifact(key="report", markdown=page, description=f"The run {summary.title} on one page")


def _page(files: Mapping[str, str], summary: RunSummary, plan: EndToEnd) -> Iterator[str]:
    yield f"# {inline(summary.title)}"
    yield "\n".join(f"- {name}: {link(uri)}" for name, uri in files.items())
    yield f"The same again: {verbatim(summary.command)}"
    yield "## Scores\n\n" + _table(
        ("metric", "value", "95 % interval", "n"),
        [(row["metric"], row["value"], row["95 % interval"], row["n"]) for row in map(score_row, summary.scores)],
    )
    if summary.notes:
        yield "## Warnings\n\n" + "\n".join(f"- {inline(note)}" for note in summary.notes)
    yield "## Time and cost\n\n" + _costs(summary, plan)
    yield "## Pictures\n\n" + _table(("what became of them", "number"), list(summary.dataset.counts.items()))
    for training in summary.trainings:
        yield from _training(training)
    if (drawn := summary.pictures.get("samples")) is not None:
        yield figure(drawn, max_bytes=THUMBNAIL_BYTES)
    yield "## Lineage\n\n" + lineage(plan)
    again = (f"- {stage.title}: {verbatim(stage.command)}" for stage in summary.stages)
    yield "## One stage again\n\n" + "\n".join(again)


def _costs(summary: RunSummary, plan: EndToEnd) -> str:
    """Return a table of time, hours, cost and energy of every stage; columns without a value are left out."""
    rows, sums = [], [0.0] * 5
    for stage in summary.stages:
        hours = stage.seconds / 3600.0
        workers = getattr(getattr(plan, stage.name, None), "workers", None)
        number = getattr(workers, "num_workers", 1)
        gpus = hours * number if getattr(workers, "use_gpu", False) else 0.0
        cpus = hours * number * getattr(workers, "threads", 1)
        values = (stage.seconds, cpus, gpus, *settings().costs(cpus, gpus))
        rows.append((stage.title, values))
        sums = [before + value for before, value in zip(sums, values, strict=True)]
    forms = ("{:.1f} s", "{:.3f}", "{:.3f}", "{:.2f}", "{:.3g}")
    shown = [0, 1, *(i for i in (2, 3, 4) if sums[i])]
    columns = ("time", "CPU hours", "GPU hours", "cost", "energy in kWh")
    told = [[title, *(forms[i].format(values[i]) for i in shown)] for title, values in (*rows, ("all", sums))]
    return _table(["stage", *(columns[i] for i in shown)], told)


def _training(training: TrainingSummary) -> Iterator[str]:
    curves = {name: points for name, points in read_curves(training.metrics).items() if "." not in name}
    rows = [
        (name, course([value for _, value in points]), f"{points[0][1]:.4g}", f"{points[-1][1]:.4g}")
        for name, points in list(curves.items())[:CURVES]
    ]
    yield f"## {inline(training.title)}\n\n" + _table(("metric", "course", "first", "last"), rows)
    ends = training.samples[:1] + training.samples[1:][-1:]
    yield from (figure(sheet, max_bytes=THUMBNAIL_BYTES) for sheet in ends)


def lineage(plan: EndToEnd) -> str:
    """Return where the scores come from: from the evaluation back to the pictures, each with its folder."""
    dataset = plan.dataset
    source = dataset.source or f"{dataset.scenes.count if dataset.scenes else 0} drawn scenes"
    steps = (
        ("scores", plan.evaluation.folder),
        ("model", plan.evaluation.model),
        ("finetuned with", plan.finetune.folder),
        ("pretrained with", plan.pretrain.folder),
        ("tokenizer", plan.tokenizer.folder),
        ("manifest", plan.tokenizer.manifest),
        ("data set", dataset.folder),
    )
    lines = [f"{number}. {name}: {link(uri)}" for number, (name, uri) in enumerate(steps, start=1)]
    fingerprint = f" (fingerprint {dataset.fingerprint})" if dataset.fingerprint else ""
    return "\n".join([*lines, f"{len(steps) + 1}. sources: {verbatim(source)}{fingerprint}"])


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(inline(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
