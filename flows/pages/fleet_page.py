"""The page of the fleet in Prefect: where every run below the root stands, and which flow runs ended badly."""

from collections.abc import Iterator, Sequence

from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun

from flows.operations.outage import until_shown
from flows.pages.links import link, verbatim
from flows.pages.pictures import inline
from infinity.reporting.fleet import FleetCard

BAR_CHARS = 20


@until_shown
def publish_fleet(cards: Sequence[FleetCard], ended_badly: Sequence[FlowRun], root: str) -> None:
    """Publish the page of the fleet, in the place of the last one.

    Args:
        cards: Runs, the last changed first.
        ended_badly: Flow runs that failed or crashed lately, the last one first.
        root: URI of the root of runs.
    """
    page = "\n\n".join(fleet_markdown(cards, ended_badly, root)) + "\n"
    create_markdown_artifact(key="fleet", markdown=page, description=f"{len(cards)} runs below {root}")


def fleet_markdown(cards: Sequence[FleetCard], ended_badly: Sequence[FlowRun], root: str) -> Iterator[str]:
    """Yield the parts of the page: what needs attention first, then every run as a list that a phone can show."""
    yield f"# Runs below {verbatim(root)}"
    attention = [f"- **{inline(card.name)}**: {inline(each)}" for card in cards for each in card.attention]
    if attention:
        yield "## What needs attention\n\n" + "\n".join(attention)
    for card in cards:
        lines = [f"- {label}: {inline(value)}" for label, value in card.facts]
        now = f"{card.state}: {card.stage}, {100 * card.fraction:.0f} %" if card.stage else card.state
        bar = f"\n\n`{_bar(card.fraction)}`" if card.stage else ""
        yield f"## {inline(card.name)}\n\n{inline(now)}{bar}\n\n" + "\n".join([*lines, f"- files: {link(card.folder)}"])
    if not cards:
        yield "No run lies there yet."
    if ended_badly:
        told = [f"- {inline(run.name)}: {inline(_cause(run))}" for run in ended_badly]
        yield "## Flow runs that ended badly\n\n" + "\n".join(told)


def _cause(run: FlowRun) -> str:
    return "" if run.state is None else f"{run.state.name}: {(run.state.message or 'no message')[:400]}"


def _bar(fraction: float) -> str:
    full = round(BAR_CHARS * fraction)
    return "█" * full + "░" * (BAR_CHARS - full)
