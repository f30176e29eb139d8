"""Reference curves of a recipe: median and band over seeds, and where a run leaves the band."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infinity import storage
from infinity.config import Config, digest_of
from infinity.reporting.plots.curves import Points

FOLDER = Path(__file__).resolve().parents[1] / "reference"
METRICS = ("loss", "bit_accuracy", "psnr_db", "bit_entropy", "grad_norm", "learning_rate")
"""Metrics that a reference holds, besides the bit accuracy of every scale."""
WIDENED = {3: 1.35, 4: 0.75, 5: 0.5}
"""Share of its width by which a band is widened at each end, by its number of seeds: then a further value of the same
normal distribution lies outside in 9 of 100 cases."""
MIN_OUTSIDE = 3
"""Logged steps in a row outside a band before a run counts as outside."""
JUDGED = ("loss", "bit_accuracy", "psnr_db")
"""Metrics by which a run is judged; the others are evidence only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceBand(Config):
    """One metric over the steps of a recipe.

    Attributes:
        steps: Logged steps in ascending order.
        median: Median over seeds at every step.
        low: Smallest value over seeds.
        high: Largest value over seeds.
    """

    steps: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.steps), len(self.median), len(self.low), len(self.high)}
        if len(sizes) != 1 or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("ReferenceBand: expected ascending steps with a median, a low and a high value each")

    def at(self, step: float, *, num_seeds: int = 5) -> tuple[float, float] | None:
        """Return the widened band at a step, interpolated between logged ones; None outside of them.

        Args:
            step: Step.
            num_seeds: Number of seeds of the band; few seeds show less of the whole spread.
        """
        if not self.steps or not self.steps[0] <= step <= self.steps[-1]:
            return None
        after = next(i for i, each in enumerate(self.steps) if each >= step)
        before = max(0, after - 1)
        gap = self.steps[after] - self.steps[before]
        share = (step - self.steps[before]) / gap if gap else 0.0
        low, high, middle = (
            line[before] + share * (line[after] - line[before]) for line in (self.low, self.high, self.median)
        )
        widened = WIDENED[min(max(num_seeds, min(WIDENED)), max(WIDENED))]
        room = widened * max(high - low, 0.02 * abs(middle))
        return low - room, high + room


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceCurves(Config):
    """Curves of one stage of a recipe.

    Attributes:
        recipe: Name of the recipe.
        stage: Stage, such as "tokenizer" or "pretrain".
        num_seeds: Number of seeds.
        family: Digest of what makes runs comparable: kind, shape, steps and batch.
        data: Name of the folder of the data set, which follows from its contents.
        spec: Identity of the recipe's spec, without places; a diagnosis compares a run's spec with it.
        bands: Band of every metric.
    """

    recipe: str
    stage: str
    num_seeds: int
    family: str
    data: str
    spec: dict[str, Any]
    bands: dict[str, ReferenceBand]

    def is_of(self, spec: Mapping[str, Any]) -> bool:
        """Return whether a training reads the data that the curves are of; other pictures have other curves.

        Args:
            spec: Fields of the training's spec as JSON.
        """
        return data_of(spec) == self.data


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """Where a run is outside its band.

    Attributes:
        metric: Metric.
        side: Side of the band.
        since: First step of those outside.
        value: Last value.
        low: Lower end of the band at the last step.
        high: Upper end of the band at the last step.
    """

    metric: str
    side: Literal["below", "above"]
    since: int
    value: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """The departure in words."""
        return (
            f"{self.metric.replace('_', ' ')} {self.side} the band since step {self.since}: {self.value:.4g}, healthy "
            f"runs have {self.low:.4g} to {self.high:.4g}"
        )


def family_of(kind: str, spec: Mapping[str, Any]) -> str:
    """Return the digest of what makes runs comparable: kind, shape without dropout rates, start, steps, batch size.

    Args:
        kind: Kind of the training.
        spec: Fields of its spec as JSON.
    """
    shape = {name: value for name, value in spec["model"].items() if name not in ("drop_path", "condition_drop")}
    loop = spec["loop"]
    starts_anew = spec.get("start_from") is None
    return digest_of([kind, shape, starts_anew, loop["num_steps"], loop["batch_size"]])


def data_of(spec: Mapping[str, Any]) -> str:
    """Return the name of the folder of a training's data set, given the fields of its spec."""
    return storage.name(storage.parent(spec["manifest"]))


def build_bands(runs: Sequence[Mapping[str, Points]]) -> dict[str, ReferenceBand]:
    """Return the bands of several seeds' curves, at the steps that all have logged."""
    shared = [name for name in runs[0] if _is_kept(name) and all(name in run for run in runs)]
    found = {}
    for name in shared:
        values = [{int(step): value for step, value in run[name]} for run in runs]
        steps = sorted(set.intersection(*(set(each) for each in values)))
        columns = [[each[step] for each in values] for step in steps]
        found[name] = ReferenceBand(
            steps=tuple(steps),
            median=tuple(_rounded(statistics.median(column)) for column in columns),
            low=tuple(_rounded(min(column)) for column in columns),
            high=tuple(_rounded(max(column)) for column in columns),
        )
    return found


def _is_kept(name: str) -> bool:
    return name in METRICS or name.startswith("bit_accuracy.scale_")


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def departures(curves: Mapping[str, Points], reference: ReferenceCurves) -> list[Departure]:
    """Return the judged metrics that are outside their bands at the end of the curves, the earliest first.

    A metric is outside where its last values, at least three in a row, lie on one side of the band.
    """
    found = []
    for metric in JUDGED:
        if metric in curves and metric in reference.bands:
            departure = _departure(metric, curves[metric], reference)
            if departure is not None:
                found.append(departure)
    return sorted(found, key=lambda each: each.since)


def _departure(metric: str, points: Points, reference: ReferenceCurves) -> Departure | None:
    band = reference.bands[metric]
    outside: list[tuple[float, float, str, tuple[float, float]]] = []
    for step, value in points:
        ends = band.at(step, num_seeds=reference.num_seeds)
        side = "" if ends is None else "below" if value < ends[0] else "above" if value > ends[1] else ""
        if not side or ends is None or (outside and outside[-1][2] != side):
            outside = []
        if side and ends is not None:
            outside.append((step, value, side, ends))
    if len(outside) < MIN_OUTSIDE:
        return None
    _, value, side, (low, high) = outside[-1]
    return Departure(
        metric=metric,
        side="below" if side == "below" else "above",
        since=int(outside[0][0]),
        value=value,
        low=low,
        high=high,
    )


def shipped_references() -> list[ReferenceCurves]:
    """Return the reference curves of all recipes."""
    return [
        ReferenceCurves.parse(path.read_text(encoding="utf-8"), where=path.name)
        for path in sorted(FOLDER.glob("*.json"))
    ]


def reference_for(kind: str, spec: Mapping[str, Any]) -> ReferenceCurves | None:
    """Return the shipped reference of a training; None where no recipe has this kind, shape, length and batch."""
    family = family_of(kind, spec)
    return next((each for each in shipped_references() if each.family == family), None)


def curves_for(kind: str, spec: Mapping[str, Any]) -> ReferenceCurves | None:
    """Return the shipped reference of a training that reads its data too, so that their curves can be compared."""
    found = reference_for(kind, spec)
    return found if found is not None and found.is_of(spec) else None
