"""Floors: values that no champion may be worse than, whatever the present champion reaches."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from infinity.evaluation.promotion.leaderboard import is_lower_better
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.score import Score


def below_floor(scores: Sequence[Score], config: GateConfig) -> tuple[str, ...]:
    """Return one sentence for every floor that the scores do not reach; a metric without value does not reach it.

    Args:
        config: Configuration with the floors; a metric's margin says which way is better, else the metric's name.
    """
    problems = []
    open_floors = dict(config.floors)
    for score in scores:
        patterns = [name for name in config.floors if fnmatchcase(score.metric, name)]
        if not patterns:
            continue
        for each in patterns:
            open_floors.pop(each, None)
        floor = config.floors[patterns[0]]
        if score.value is None:
            problems.append(f"{score.metric} has a floor of {floor:.4g} but no value ({score.note})")
            continue
        margin = config.margin(score.metric)
        lower = is_lower_better(score.metric) if margin is None else margin.better == "lower"
        if (score.value > floor) if lower else (score.value < floor):
            problems.append(
                f"{score.metric} is {score.value:.4g} {score.unit}".rstrip()
                + f", {'above' if lower else 'below'} its floor of {floor:.4g}"
            )
    problems += [f"{name} has a floor of {floor:.4g} but was not measured" for name, floor in open_floors.items()]
    return tuple(problems)
