"""The page of the fleet: every run below a root as a card that a phone can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infinity.reporting.templates import rendered


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetCard:
    """One run on the page, in words.

    Attributes:
        folder: URI of its folder.
        state: "works", "cut off", "waiting", "done" or "unreadable".
        stage: Stage that works, or is next; empty where all are done.
        fraction: Share of that stage that is done, 0 to 1.
        facts: What else is known, as (label, value); empty values are not shown.
        attention: What a person should look at, one sentence each.
    """

    name: str
    folder: str
    state: str
    stage: str
    fraction: float
    facts: tuple[tuple[str, str], ...]
    attention: tuple[str, ...] = ()


def render_fleet(cards: Sequence[FleetCard], *, root: str, when: str) -> str:
    """Return the HTML text of the page, readable without a network.

    Args:
        cards: Runs in the order of the page.
        root: URI of the root of runs.
    """
    return rendered("fleet.html.j2", cards=cards, root=root, when=when)
