"""Two or more runs side by side, as a page of Prefect."""

from collections.abc import Iterator, Sequence

from prefect.artifacts import create_markdown_artifact

from flows.operations.outage import until_shown
from flows.pages.links import link
from flows.pages.live import course
from flows.pages.pictures import figure, inline
from infinity.reporting.run_comparison import (
    RunView,
    data_rows,
    different_settings,
    score_rows,
    shared_curves,
)
from infinity.reporting.summary import Sheet

PICTURE_BYTES = 6_000


@until_shown
def publish_comparison(runs: Sequence[RunView]) -> None:
    """Publish the comparison of runs, in the place of the last one."""
    page = "\n\n".join(comparison_markdown(runs)) + "\n"
    names = " and ".join(run.name for run in runs)
    create_markdown_artifact(key="comparison", markdown=page, description=f"Side by side: {names}")


def comparison_markdown(runs: Sequence[RunView]) -> Iterator[str]:
    """Yield the parts of the page; each setting is a list, which a phone can show, and not a row of a wide table."""
    yield "# " + " and ".join(inline(run.name) for run in runs)
    yield "\n".join(f"- {inline(run.name)}: {link(run.folder)}" for run in runs)
    for title, rows in (
        ("Settings that differ", different_settings(runs)),
        ("Pictures", data_rows(runs)),
        ("Scores", score_rows(runs)),
    ):
        yield f"## {title}\n\n" + ("\n".join(_row(runs, row) for row in rows) or "None.")
    curves = [
        f"- {inline(f'{stage}: {metric}')}\n"
        + "\n".join(
            f"    - {inline(line.label)}: {course([y for _, y in line.points])} {line.points[-1][1]:.4g}"
            for line in lines
        )
        for stage, metric, lines in shared_curves(runs)
    ]
    yield "## Curves\n\n" + ("\n".join(curves) or "No metric that two runs have.")
    for run in runs:
        if run.picture is not None:
            sheet = Sheet(image=run.picture, title=f"Newest samples of {run.name}")
            yield figure(sheet, max_bytes=PICTURE_BYTES)


def _row(runs: Sequence[RunView], row: tuple[str, ...]) -> str:
    lines = [f"    - {inline(run.name)}: {inline(value)}" for run, value in zip(runs, row[1:], strict=True)]
    return "\n".join([f"- {inline(row[0])}", *lines])
