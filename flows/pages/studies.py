"""The verdicts of studies on the run page."""

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.operations.outage import until_shown
from flows.pages.links import link
from infinity.reporting.study import StudyResult


@until_shown
def publish_studies(results: Sequence[tuple[StudyResult, str]], overview: str) -> None:
    """Publish the verdict of every claim as a table, and links to the pages."""
    table = [
        {
            "claim": result.number,
            "study": result.name,
            "verdict": result.verdict,
            "seeds": " ".join(map(str, result.seeds)),
            "minutes": round(result.cost.jobs_s / 60, 1),
        }
        for result, _ in results
    ]
    create_table_artifact(key="study-verdicts", table=table, description="Verdicts about the paper's claims")
    lines = [f"- {result.claim} **{result.verdict}** {link(page)}" for result, page in results]
    markdown = "\n".join([*lines, "", f"All verdicts: {link(overview)}", ""])
    create_markdown_artifact(key="study-pages", markdown=markdown, description="Pages of the studies")
