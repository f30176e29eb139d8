"""Curves from a metrics.jsonl file: one series per metric, thinned and smoothed for display."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from infinity import storage
from infinity.storage.lines import json_objects

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """A named line; ``points`` are (x, y) with ascending x."""

    label: str
    points: Points
    tone: str = "tone-1"


def read_curves(uri: str) -> dict[str, Points]:
    """Return the finite numbers of a JSON lines file of metrics by name, as (step, value) in order of the step.

    Where a step was logged twice (a resumed run repeats some), the later line counts.

    Raises:
        ValueError: A line is not a JSON object with a ``step``.
    """
    curves: dict[str, dict[float, float]] = {}
    for where, row in json_objects(storage.read_bytes(uri), uri, skips_blank=True):
        try:
            step = float(row.pop("step"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{where}: expected an object with a step, found {str(row)[:80]}") from error
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
                curves.setdefault(name, {})[step] = float(value)
    return {name: tuple(sorted(points.items())) for name, points in curves.items()}


def per_scale(curves: dict[str, Points], metric: str) -> tuple[Points, ...]:
    """Return the curves of ``<metric>.scale_<k>`` in order of k."""
    return _numbered(curves, f"{metric}.scale_")


def per_bit(curves: dict[str, Points], metric: str) -> tuple[Points, ...]:
    """Return the curves of ``<metric>.bit_<c>`` in order of c."""
    return _numbered(curves, f"{metric}.bit_")


def _numbered(curves: dict[str, Points], prefix: str) -> tuple[Points, ...]:
    pattern = re.compile(re.escape(prefix) + r"(\d+)")
    found = sorted((int(match[1]), name) for name in curves if (match := pattern.fullmatch(name)))
    return tuple(curves[name] for _, name in found)


def thinned(points: Points, most: int = 240) -> Points:
    """Return at most ``most`` points, which are means of neighbouring points.

    Example:
        >>> thinned(((0.0, 1.0), (1.0, 3.0), (2.0, 5.0)), most=2)
        ((0.5, 2.0), (2.0, 5.0))
    """
    if len(points) <= most:
        return points
    size = -(-len(points) // most)
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return tuple((fmean(x for x, _ in group), fmean(y for _, y in group)) for group in groups)


def smoothed(points: Points, weight: float = 0.9) -> Points:
    """Return the running mean with exponentially decaying weights, without the bias of a zero start."""
    total = mass = 0.0
    result = []
    for x, y in points:
        total, mass = weight * total + y, weight * mass + 1.0
        result.append((x, total / mass))
    return tuple(result)


def joined(parts: Iterable[Points]) -> Points:
    """Return curves of consecutive trainings as one curve; each begins where the last one ended."""
    result: list[tuple[float, float]] = []
    for points in parts:
        start = result[-1][0] if result else 0.0
        result.extend((start + x, y) for x, y in points)
    return tuple(result)


def last(points: Sequence[tuple[float, float]]) -> float:
    """Return the y of the last point."""
    return points[-1][1]
