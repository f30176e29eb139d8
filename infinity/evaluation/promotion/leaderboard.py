"""Our scores beside published ones: one table per metric, and within it one group per protocol.

Published scores of one model differ by several points between groups because of the protocol alone. So scores are
ranked only against scores of the same protocol, and every group states its protocol (decision 22).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infinity.evaluation.score import Score

PUBLISHED = Path(__file__).with_name("published.csv")
"""Columns metric, model, value, unit, protocol, source; the only place with published scores."""

COLUMNS = ("metric", "model", "value", "unit", "protocol", "source")
_MOST = {"share": 1.0, "percent": 100.0}
"""Largest value of units with one; 67 as share is 67 percent."""
LOWER_IS_BETTER = (
    "fid",
    "rfid",
    "fid_reference",
    "kid",
    "rkid",
    "cmmd",
    "fd_dinov2",
    "fd_efficientnet_lite0",
    "edit_distance",
    "failed",
    "gaps",
    "lpips",
    "loss",
    "validation_loss",
    "seconds_per_picture",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardEntry:
    """One score of one model.

    Attributes:
        model: Name of the model, in words.
        value: The score, or None where it was not measured.
        unit: Unit of the value.
        protocol: How the score was measured.
        source: Place of publication; for our scores, the folder of the evaluation.
        is_ours: Whether the score was measured here.
        n: Sample size; None where it was not published with the figure.
        low: Lower end of the 95 % interval, None where unknown.
        high: Upper end.
        note: What a reader must know besides the number.
        sampling: How our pictures were drawn, in words; empty for others.
        repeat: Command that measures our figure again; empty for others.
    """

    metric: str
    model: str
    value: float | None
    unit: str
    protocol: str
    source: str
    is_ours: bool = False
    n: int | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    sampling: str = ""
    repeat: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Scores that compare: one metric, one protocol; the best first, those that were not measured last."""

    metric: str
    protocol: str
    entries: tuple[LeaderboardEntry, ...]

    @property
    def has_ours(self) -> bool:
        """Whether one of the scores was measured here."""
        return any(entry.is_ours for entry in self.entries)


def published(text: str | None = None, *, where: str = PUBLISHED.name) -> tuple[LeaderboardEntry, ...]:
    """Return the published scores.

    Args:
        text: Text of a CSV table; None reads the table that comes with the package.
        where: Name of the table in error messages.

    Raises:
        ValueError: Other columns, a value that is no number or beyond its unit, a score without protocol or source, or
            a score that is listed twice.
    """
    reader = csv.reader(io.StringIO(PUBLISHED.read_text(encoding="utf-8") if text is None else text))
    header = tuple(next(reader, ()))
    if header != COLUMNS:
        raise ValueError(f"{where}: expected the columns {', '.join(COLUMNS)}, found {', '.join(header) or 'none'}")
    entries: dict[tuple[str, ...], LeaderboardEntry] = {}
    for number, row in enumerate(reader, start=2):
        if len(row) != len(COLUMNS) or not all(row[index].strip() for index in (0, 1, 2, 4, 5)):
            raise ValueError(f"{where} line {number}: expected a value for every column but unit, got {row}")
        metric, model, value, unit, protocol, source = (cell.strip() for cell in row)
        try:
            figure = float(value)
        except ValueError:
            raise ValueError(f"{where} line {number}: expected a number as value, got {value!r}") from None
        if not math.isfinite(figure):
            raise ValueError(f"{where} line {number}: expected a finite number as value, got {value!r}")
        if (most := _MOST.get(unit)) is not None and not 0 <= figure <= most:
            raise ValueError(f"{where} line {number}: expected 0 to {most:g} as {unit}, got {value}")
        key = (metric, model, protocol, source)
        if key in entries:
            raise ValueError(f"{where} line {number}: the figure of {model!r} for {metric} is there twice")
        entries[key] = LeaderboardEntry(
            metric=metric, model=model, value=figure, unit=unit, protocol=protocol, source=source
        )
    return tuple(entries.values())


def ours(
    model: str, scores: Iterable[Score], source: str, *, sampling: str = "", repeat: str = ""
) -> tuple[LeaderboardEntry, ...]:
    """Return scores that were measured here; those that were not measured stay, with their reason."""
    return tuple(
        LeaderboardEntry(
            metric=score.metric,
            model=model,
            value=score.value,
            unit=score.unit,
            protocol=score.protocol,
            source=source,
            is_ours=True,
            n=score.n,
            low=score.low,
            high=score.high,
            note=score.note,
            sampling=sampling,
            repeat=repeat,
        )
        for score in scores
    )


def leaderboard(entries: Iterable[LeaderboardEntry]) -> tuple[Group, ...]:
    """Return groups by metric and protocol: metrics in their first order, groups with our scores first.

    Raises:
        ValueError: Scores of one metric and protocol have different units, so that their order would mean nothing.
    """
    groups: dict[tuple[str, str], list[LeaderboardEntry]] = {}
    for entry in entries:
        group = groups.setdefault((entry.metric, entry.protocol), [])
        other = next((each for each in group if each.value is not None and each.unit != entry.unit), None)
        if other is not None and entry.value is not None:
            raise ValueError(
                f"{entry.metric} of {entry.model} is in {entry.unit or 'no unit'!r} ({entry.source}), that of "
                f"{other.model} in {other.unit or 'no unit'!r} ({other.source}), under one protocol; write both in one "
                "unit"
            )
        group.append(entry)
    metrics = list(dict.fromkeys(metric for metric, _ in groups))
    ranked = [Group(metric, protocol, _ranked(metric, found)) for (metric, protocol), found in groups.items()]
    return tuple(sorted(ranked, key=lambda group: (metrics.index(group.metric), not group.has_ours)))


def is_lower_better(metric: str) -> bool:
    """Return whether a smaller value is the better one."""
    return any(word.removesuffix("_rewritten") in LOWER_IS_BETTER for word in metric.split("."))


def _ranked(metric: str, entries: list[LeaderboardEntry]) -> tuple[LeaderboardEntry, ...]:
    sign = 1.0 if is_lower_better(metric) else -1.0

    def key(entry: LeaderboardEntry) -> tuple[bool, float, str]:
        return entry.value is None, 0.0 if entry.value is None else sign * entry.value, entry.model

    return tuple(sorted(entries, key=key))
