"""Sets of thresholds by name, with the networks that they need."""

from __future__ import annotations

from typing import Literal, get_args

from infinity.data.curation.filters import PAPER_FILTERS, ModelFilters
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.perception.scorers import DEFAULT_SCORERS

FilterSet = Literal["none", "paper"]
FILTER_SETS: tuple[FilterSet, ...] = get_args(FilterSet)

_SETS: dict[FilterSet, ModelFilters] = {"none": ModelFilters(), "paper": PAPER_FILTERS}


def filter_set(name: FilterSet) -> ModelFilters:
    """Return the thresholds of a set: "paper" has those on text, watermarks and aesthetic score, "none" has none.

    Raises:
        ValueError: No set of that name.
    """
    if name not in _SETS:
        raise ValueError(f"filter set: expected one of {', '.join(FILTER_SETS)}, got {name!r}")
    return _SETS[name]


def with_model_filters(spec: BuildDatasetSpec, models: ModelFilters) -> BuildDatasetSpec:
    """Return the spec with these thresholds, and with the default network for every score that they lack.

    Raises:
        ValueError: A score has no default network: own output needs the model and the key of its watermark.
    """
    known = {scorer.score for scorer in spec.scorers}
    absent = [name for name in models.needed() if name not in known]
    if unknown := [name for name in absent if name not in DEFAULT_SCORERS]:
        raise ValueError(
            f"filters: the score {unknown[0]} has no default network; expected a scorer of this kind in the spec's "
            "scorers, with its model and its key_file"
        )
    scorers = (*spec.scorers, *(DEFAULT_SCORERS[name] for name in absent))
    return spec.replace(filters=spec.filters.replace(models=models), scorers=scorers)
