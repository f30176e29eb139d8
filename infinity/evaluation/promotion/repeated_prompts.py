"""Prompts that a list names several times: one item of the gate each, since their pictures succeed and fail together.

Repeats are no independent evidence. Counted one by one, a list of 20 prompts that is written down 25 times blocks two
of five unchanged models, unless the repeats stand beside each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from infinity.evaluation.score import benchmark_of

Items = Mapping[str, Mapping[str, float | None]]


def one_item_per_prompt(items: Items, prompts: Mapping[tuple[str, str], str]) -> dict[str, dict[str, float | None]]:
    """Return the values by metric and item, those of equal prompts as one item with their mean.

    The item has the first id of its prompt, in order of ids. It has no value where one of its parts has none.

    Args:
        items: Values by metric and id.
        prompts: Text of each prompt, by the benchmark's name and the id; an id without one stands for itself.
    """
    merged: dict[str, dict[str, float | None]] = {}
    for metric, values in items.items():
        benchmark = benchmark_of(metric)
        groups: dict[object, list[str]] = {}
        for name in sorted(values):
            groups.setdefault(prompts.get((benchmark, name), (name,)), []).append(name)
        merged[metric] = {names[0]: _mean([values[name] for name in names]) for names in groups.values()}
    return merged


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return known[0] if len(known) == 1 else math.fsum(known) / len(known)
