"""A model's card: what it is, what it learned from, how it was trained, what was measured, and what it draws.

Everything comes from records beside the model. The card states no date and no machine, so the same records give the
same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.evaluation.score import Score
from infinity.reporting.comparison import number, thumbnail
from infinity.reporting.scores.leaderboard import plain
from infinity.reporting.summary import Sheet
from infinity.reporting.templates import rendered

HEADLINES, SHOWN_SHEETS = 8, 2
"""Most scores on the first page of a card, and most sheets on the second; the rest is behind a link."""
_LICENCE = re.compile("licen[cs]e")
CARD_FILE, PAGE_FILE, PICTURES_FOLDER = "README.md", "card.html", "pictures"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """The data set of a model.

    Attributes:
        uri: URI of the manifest.
        sha256: Checksum of the manifest's file.
        counts: Numbers of pictures: read, kept, unreadable, and one ``dropped_<reason>`` per reason.
        splits: Numbers of pictures by split.
        settings: Settings of the data set's job, as JSON.
    """

    uri: str
    sha256: str
    counts: Mapping[str, int]
    splits: Mapping[str, int]
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFacts:
    """One training that led to the model, from its records.

    Attributes:
        title: Name of the training, in words.
        folder: URI of the job's folder.
        num_steps: Number of training steps.
        num_parameters: Number of trained parameters.
        final: Last value of every logged metric.
        settings: Spec of the training, as JSON.
    """

    title: str
    folder: str
    num_steps: int
    num_parameters: int
    final: Mapping[str, float]
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationFacts:
    """One evaluation of the model: its scores with their protocols, and its sheets of pictures.

    Attributes:
        made: How pictures were drawn, and the command that measures the same again, in words.
    """

    folder: str
    scores: tuple[Score, ...]
    sheets: tuple[Sheet, ...]
    settings: Mapping[str, Any]
    made: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """Everything that a card says.

    Attributes:
        model: URI of the model folder.
        digest: Digest of the model's checkpoint.
        facts: Properties by name: parameters, resolution, text encoder and so on.
        config: Configuration of the model, as JSON.
        data: Data sets; empty where no record names one.
        trainings: Trainings in the order in which they were done.
        gaps: Records that are missing, one sentence each.
        licence: Licence of the weights, as their maker states it; empty for none stated.
        use: Intended use, as their maker states it; empty for none stated.
    """

    title: str
    model: str
    digest: str
    facts: Mapping[str, str]
    config: Mapping[str, Any]
    data: tuple[DataFacts, ...]
    trainings: tuple[TrainingFacts, ...]
    evaluations: tuple[EvaluationFacts, ...]
    gaps: tuple[str, ...]
    licence: str = ""
    use: str = ""

    @property
    def headline(self) -> tuple[Score, ...]:
        """The measured scores that stand on the first page: overall ones first, then others, in their order."""
        measured = [score for found in self.evaluations for score in found.scores if score.value is not None]
        return tuple(sorted(measured, key=lambda score: not score.metric.endswith(".overall"))[:HEADLINES])

    @property
    def limits(self) -> tuple[str, ...]:
        """What the records do not say or state as missing, one sentence each."""
        scores = [score for found in self.evaluations for score in found.scores]
        by_reason: dict[str, list[str]] = {}
        for score in scores:
            if score.value is None:
                by_reason.setdefault(score.note.removeprefix("not measured: "), []).append(score.metric)
        sentences = [f"Not measured: {', '.join(metrics)} ({reason})." for reason, metrics in by_reason.items()]
        if incomplete := [score.metric for score in scores if "INCOMPLETE" in score.note]:
            sentences.append(f"Measured on a part, since pictures are missing: {', '.join(incomplete)}.")
        if not self.evaluations:
            sentences.append("Nothing was measured: what it draws is unknown.")
        if self.evaluations and not any(_asks_people(found.settings) for found in self.evaluations):
            sentences.append("No score stands for what people prefer, and nobody was asked.")
        return (*self.gaps, *sentences)

    @property
    def stated(self) -> tuple[str, ...]:
        """Licences and intended use in sentences: what records and the maker state, or that nobody states them."""
        licences = [str(value) for data in self.data for name, value in data.settings.items() if _LICENCE.search(name)]
        return (
            f"Licence of the weights: {self.licence}." if self.licence else "Nobody states a licence of the weights.",
            f"Licence of the data: {', '.join(licences)}." if licences else "No record states a licence of the data.",
            f"Intended use: {self.use}." if self.use else "Nobody states an intended use.",
        )


def _asks_people(settings: Mapping[str, Any]) -> bool:
    return any(settings.get(name) for name in ("image_reward", "hps", "hps3", "pick_score"))


@dataclass(frozen=True, slots=True)
class CardFiles:
    """URIs of the written files."""

    markdown: str
    html: str


def write_card(card: ModelCard, folder: str) -> CardFiles:
    """Write ``README.md`` with its pictures, and a self-contained ``card.html``, into a folder (a path or URI).

    Raises:
        StorageError: A picture that the records name is missing, or the folder cannot be written.
    """
    pictures = {
        sheet.image: f"{PICTURES_FOLDER}/{number_}-{storage.name(sheet.image)}"
        for number_, sheet in enumerate((sheet for found in card.evaluations for sheet in found.sheets), start=1)
    }
    for uri, name in pictures.items():
        storage.write_bytes(storage.join(folder, name), storage.read_bytes(uri))
    files = CardFiles(storage.join(folder, CARD_FILE), storage.join(folder, PAGE_FILE))
    storage.write_text(files.markdown, _render(card, "card.md.j2", pictures, escape=False))
    storage.write_text(files.html, _render(card, "card.html.j2", pictures, escape=True))
    return files


def _render(card: ModelCard, template: str, pictures: Mapping[str, str], *, escape: bool) -> str:
    return rendered(
        template,
        escape=escape,
        card=card,
        pictures=pictures,
        shown_sheets=SHOWN_SHEETS,
        picture=sheet_data_uri,
        plain=plain,
        number=number,
        short=lambda protocol: re.split("[:;,]", protocol, maxsplit=1)[0],
        words=lambda name: name.replace("_", " "),
        pretty=lambda settings: json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True),
    )


def sheet_data_uri(uri: str) -> str:
    """Return a sheet as ``data:`` URI, at full size if it is small, else shrunk."""
    return thumbnail(uri, max_png_bytes=400_000, max_side_px=1400)
