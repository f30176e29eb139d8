"""Page about one evaluation: whose pictures, scores beside published ones of the same protocol, pictures."""

from __future__ import annotations

from dataclasses import dataclass

from infinity.evaluation.promotion.leaderboard import Group, LeaderboardEntry
from infinity.reporting.comparison import number, thumbnail
from infinity.reporting.scores.card import sheet_data_uri
from infinity.reporting.scores.leaderboard import interval
from infinity.reporting.summary import Sheet
from infinity.reporting.templates import rendered


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingSection:
    """One benchmark of an evaluation.

    Attributes:
        name: First part of its metrics' names.
        is_published: Whether scores are published by its name.
        groups: Scores of one metric and one protocol each, ours and published ones.
        differences: Settings in which the evaluation differs from the published protocol.
        samples: Prompts with the URI of a picture, where there is no sheet.
    """

    name: str
    is_published: bool
    groups: tuple[Group, ...]
    differences: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    samples: tuple[tuple[str, str], ...] = ()

    @property
    def entries(self) -> tuple[LeaderboardEntry, ...]:
        """All scores, metric by metric, the best first."""
        return tuple(entry for group in self.groups for entry in group.entries)

    @property
    def notes(self) -> tuple[str, ...]:
        """All protocols and notes of our scores, each once."""
        texts = [text for entry in self.entries if entry.is_ours for text in (entry.protocol, entry.note) if text]
        return tuple(dict.fromkeys(texts))

    @property
    def sentence(self) -> str:
        """Why no published score, or which, stands beside ours."""
        beside = [entry for entry in self.entries if not entry.is_ours]
        if beside:
            return f"Beside {len(beside)} published score{'s' if len(beside) > 1 else ''} of the same protocol."
        if self.differences:
            return f"No published score stands beside: {'; '.join(self.differences)}."
        return "No published score has this protocol." if self.is_published else "No score is published by this name."


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingPage:
    """Everything that the page says.

    Attributes:
        title: Name of the model.
        is_foreign: Whether the pictures were drawn elsewhere.
        origins: Whose pictures were scored, in words; empty for pictures of our model.
        digest: Digest of the model's checkpoint; empty for pictures that were drawn elsewhere.
        sampling: How pictures were drawn, in words; empty where that is not known.
        folder: URI of the evaluation.
        repeat: Command that measures the same again.
    """

    title: str
    is_foreign: bool
    origins: tuple[str, ...]
    digest: str
    sampling: str
    folder: str
    repeat: str
    sections: tuple[StandingSection, ...]


def standing_html(page: StandingPage) -> str:
    """Return the page as HTML text, readable without a network.

    Raises:
        StorageError: A sheet of pictures is missing.
    """
    return rendered(
        "standing.html.j2",
        page=page,
        picture=sheet_data_uri,
        sample=thumbnail,
        interval=interval,
        number=number,
        marks=_marks,
    )


def _marks(section: StandingSection, entry: LeaderboardEntry) -> str:
    """Return the numbers of the protocol and the note of our score in the section's list."""
    return " ".join(f"[{section.notes.index(text) + 1}]" for text in (entry.protocol, entry.note) if text)
