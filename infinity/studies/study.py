"""What a study is: arms to compare, and contrasts of their values with the rule that decides about the claim."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infinity.config import Config
from infinity.jobs.spec import JobSpec
from infinity.reporting.study import PaperFigure
from infinity.studies.values import SCORE
from infinity.studies.world import World

Arms = Mapping[str, Sequence[JobSpec]]
"""Jobs of every arm in the order in which they run; the values of all their reports together are those of the arm."""

MIN_SEEDS = 3
"""Fewest seeds of a study whose values vary from seed to seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast(Config):
    """A weighted sum of an arm's values, measured once per seed, and the range in which the claim expects its mean.

    The claim holds where the 95 % interval of the mean over seeds lies within the range. It does not hold where the
    interval lies outside. Otherwise the two are not told apart.

    Attributes:
        name: What is compared, in words.
        metric: Metric of all arms, such as "scene_geneval.overall".
        above: Lower end of the claim's range; None for none.
        below: Upper end of the claim's range; None for none.
        log2: Whether the weights apply to binary logarithms of the values.
        counted: Whether the values are counted, not sampled: then they need no spread, and one seed is enough.
    """

    name: str
    metric: str
    weights: dict[str, float]
    above: float | None = None
    below: float | None = None
    log2: bool = False
    counted: bool = False

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"Contrast {self.name!r}: expected the weight of at least one arm, got none")
        if self.above is None and self.below is None:
            raise ValueError(f"Contrast {self.name!r}: expected an end of the claim's range, above or below, got none")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"Contrast {self.name!r}: expected above < below, got {self.above} and {self.below}")

    def of(self, values: Mapping[str, float]) -> float:
        """Return the contrast of one seed, given the metric's value of every arm.

        Raises:
            ValueError: A value has no logarithm.
        """
        total = 0.0
        for arm, weight in self.weights.items():
            value = values[arm]
            if self.log2 and value <= 0:
                raise ValueError(f"{self.name}: expected positive values for a logarithm, got {value:g} of {arm!r}")
            total += weight * (math.log2(value) if self.log2 else value)
        return total

    @property
    def rule(self) -> str:
        """The rule in words."""
        ends = [f"above {self.above:g}"] if self.above is not None else []
        ends += [f"below {self.below:g}"] if self.below is not None else []
        metric = f"log2 of {self.metric}" if self.log2 else self.metric
        arms = {weight: arm for arm, weight in self.weights.items()}
        if len(self.weights) == 2 and arms.keys() == {1.0, -1.0}:
            what = f"{metric} of “{arms[1.0]}” minus that of “{arms[-1.0]}”"
        else:
            what = f"{', '.join(f'{weight:+.3g} × “{arm}”' for arm, weight in self.weights.items())} of {metric}"
        return f"{what}: {' and '.join(ends)}"


def better(arm: str, than: str, metric: str, *, lower: bool = False, by: float = 0.0) -> Contrast:
    """Return the contrast that holds where an arm is better than another by more than ``by``.

    Args:
        arm: Arm that the claim calls better.
        than: Arm that it is compared with.
        metric: Metric of both.
        lower: Whether smaller values are better, as for a loss.
        by: Difference that must be exceeded, in the metric's unit.
    """
    sign = -1.0 if lower else 1.0
    told = "" if metric == SCORE else f" ({metric})"
    return Contrast(name=f"{arm} better than {than}{told}", metric=metric, weights={arm: sign, than: -sign}, above=by)


def same(arm: str, other: str, metric: str, *, margin: float, log2: bool = False) -> Contrast:
    """Return the contrast that holds where two arms differ by less than the margin in either direction."""
    weights = {arm: 1.0, other: -1.0}
    return Contrast(name=f"{arm} like {other}", metric=metric, weights=weights, above=-margin, below=margin, log2=log2)


def slope(
    places: Mapping[str, float],
    metric: str,
    *,
    name: str,
    above: float | None = None,
    below: float | None = None,
    log2: bool = False,
    counted: bool = False,
) -> Contrast:
    """Return the contrast that is the least-squares slope of the values over the arms' places.

    Args:
        places: Place x of every arm, at least two different ones.
        name: What is compared, in words.
        above: Lower end of the claim's range.
        below: Upper end of the claim's range.
        log2: Whether the slope is that of binary logarithms of the values.
        counted: Whether the values are counted, not sampled.
    """
    mean = math.fsum(places.values()) / len(places)
    square = math.fsum((x - mean) ** 2 for x in places.values())
    if square == 0:
        raise ValueError(f"slope {name!r}: expected at least two different places, got {dict(places)}")
    weights = {arm: (x - mean) / square for arm, x in places.items()}
    return Contrast(name=name, metric=metric, weights=weights, above=above, below=below, log2=log2, counted=counted)


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw(Config):
    """A power law y = a · x^-b through all arms but one, whose value is predicted before it is trained.

    Attributes:
        metric: Metric y, such as "validation.loss".
        x: Metric x, such as "num_parameters".
        held_out: Arm that is not fitted; its jobs run after the prediction was stored.
    """

    metric: str
    x: str
    held_out: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A claim with the arms that test it.

    Attributes:
        name: Slug, the name of the study's page.
        number: Number of the claim in the list of the paper's claims.
        title: Title of the result's page.
        source: Table or figure of the paper.
        arms: Function of the world and a seed that returns the jobs of every arm.
        contrasts: Contrasts that must all hold.
        places: Place of the arms on the figure's x axis; empty for one place per arm.
        x_title: What the x axis shows.
        power_law: Power law with its held-out prediction, or None.
        paper: Figures of the paper to show beside ours.
        reason: Likely reason if the claim does not hold at this size.
        explores: Arms that no contrast needs; one that is clearly worse than the best gets no further seeds.
        lower: Whether smaller values of the figure's metric are better.
        only_draws: Whether all arms draw with the usual model, so that finished models serve it.
    """

    name: str
    number: int
    title: str
    claim: str
    source: str
    arms: Callable[[World, int], Arms]
    contrasts: tuple[Contrast, ...]
    places: Mapping[str, float] | None = None
    x_title: str = ""
    power_law: PowerLaw | None = None
    paper: tuple[PaperFigure, ...] = ()
    reason: str = ""
    explores: frozenset[str] = frozenset()
    lower: bool = False
    only_draws: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ValueError(f"study {self.name!r}: expected a name of a-z, 0-9, _ and -, which names its folder")
        if not self.contrasts:
            raise ValueError(f"study {self.name}: expected at least one contrast, got none")
        if needed := sorted(self.explores & {arm for contrast in self.contrasts for arm in contrast.weights}):
            raise ValueError(f"study {self.name}: a contrast needs {', '.join(needed)}, so they cannot be left early")

    @property
    def min_seeds(self) -> int:
        """Fewest seeds: one where all values are counted."""
        return 1 if all(contrast.counted for contrast in self.contrasts) else MIN_SEEDS

    @property
    def metric(self) -> str:
        """Metric of the figure: that of the first contrast."""
        return self.contrasts[0].metric
