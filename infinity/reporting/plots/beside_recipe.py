"""A training beside its recipe: the range of healthy runs behind its curves, and whether it lies inside, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infinity import storage
from infinity.config import ConfigError
from infinity.reporting.plots.charts import Ribbon
from infinity.reporting.plots.curves import Points
from infinity.reporting.plots.reference import JUDGED, ReferenceCurves, curves_for, departures
from infinity.storage.json_files import read_object

SPEC_FILE = "spec.json"
_REMEDY = "restore the file, or delete it: then the page is written without the recipe's range"


@dataclass(frozen=True, slots=True)
class BesideRecipe:
    """What the page of a training says about its recipe.

    Attributes:
        sentence: Whether the training lies inside the range of the recipe's healthy runs, and what to do if not.
        is_inside: Whether it does.
        ribbons: Range of healthy runs by metric.
    """

    sentence: str
    is_inside: bool
    ribbons: Mapping[str, Ribbon]


def beside_recipe(metrics: str, curves: Mapping[str, Points]) -> BesideRecipe | None:
    """Return what is to be said and drawn; None where no recipe has this training and data, or its spec is not there.

    Args:
        metrics: URI of the training's log, beside whose spec it lies.
        curves: Curves of the log.

    Raises:
        ConfigError: The spec is damaged.
        StorageError: The spec cannot be read.
    """
    uri = storage.join(storage.parent(metrics), SPEC_FILE)
    if not storage.exists(uri):
        return None
    stored = read_object(uri, remedy=_REMEDY)
    try:
        reference = curves_for(stored["kind"], stored["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{uri}: expected the spec of a training, found another ({found:.80}); {_REMEDY}") from error
    if reference is None:
        return None
    outside = departures(curves, reference)
    told = "; ".join(each.sentence for each in outside)
    whose = f"the recipe {reference.recipe} ({reference.stage}, {reference.num_seeds} seeds)"
    folder = storage.parent(metrics)
    inside = f"Inside the range of healthy runs of {whose}, which is the grey area of the charts."
    ask = f"The likeliest cause: infinity diagnose {folder}"
    return BesideRecipe(
        sentence=f"Outside the range of healthy runs of {whose}: {told}. {ask}" if outside else inside,
        is_inside=not outside,
        ribbons={name: _ribbon(name, reference) for name in JUDGED if name in reference.bands},
    )


def _ribbon(metric: str, reference: ReferenceCurves) -> Ribbon:
    band = reference.bands[metric]
    at = {step: band.at(step, num_seeds=reference.num_seeds) for step in band.steps}
    ends = [(float(step), *found) for step, found in at.items() if found is not None]
    return Ribbon(tuple((x, low) for x, low, _ in ends), tuple((x, high) for x, _, high in ends))
