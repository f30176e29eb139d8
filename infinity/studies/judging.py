"""Verdicts of a study: intervals over seeds, compared with ranges that were written down before."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from scipy.special import stdtrit

from infinity.reporting.study import ContrastResult, StudyRow, Verdict
from infinity.studies.study import Contrast, Study


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and half of its 95 % interval's width by Student's t; None where the spread is unknown.

    The spread is unknown for a single value, and where several are exactly alike, which happens to coarse scores.

    Example:
        >>> mean, half = mean_and_interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2 or max(values) == min(values):
        return mean, None
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, float(stdtrit(len(values) - 1, 0.975)) * spread / math.sqrt(len(values))


def sign_test(values: Sequence[float], middle: float) -> float:
    """Return the one-sided p of the sign test: how often as many values would lie above the middle by chance.

    Example:
        >>> sign_test([0.1, 0.2, 0.3], 0.0)
        0.125
    """
    apart = [value for value in values if value != middle]
    above = sum(value > middle for value in apart)
    return float(sum(math.comb(len(apart), k) for k in range(above, len(apart) + 1)) / 2.0 ** len(apart))


def judge_contrast(contrast: Contrast, rows: Sequence[StudyRow]) -> ContrastResult:
    """Judge one contrast from the rows of all seeds; a seed without a value of every arm does not count."""
    differences = {seed: contrast.of(values) for seed, values in _complete(contrast, rows).items()}
    found = list(differences.values())
    mean, half = mean_and_interval(found) if found else (None, None)
    if contrast.counted and found:
        half = max(abs(value - found[0]) for value in found)
    verdict, why = _verdict(contrast, found, mean, half)
    why = _unknown(contrast, rows) or why
    return ContrastResult(
        name=contrast.name,
        rule=contrast.rule,
        per_seed={str(seed): value for seed, value in differences.items()},
        mean=mean,
        low=None if mean is None or half is None else mean - half,
        high=None if mean is None or half is None else mean + half,
        sign_p=_sign_p(contrast, found),
        verdict=verdict,
        why=why,
    )


def _sign_p(contrast: Contrast, found: Sequence[float]) -> float | None:
    """Return p of the sign test; None without values, and where the claim's range has two ends."""
    if not found or (contrast.above is not None and contrast.below is not None):
        return None
    if contrast.above is not None:
        return sign_test(found, contrast.above)
    assert contrast.below is not None
    return sign_test([-value for value in found], -contrast.below)


def _complete(contrast: Contrast, rows: Sequence[StudyRow]) -> dict[int, dict[str, float]]:
    """Return the metric of every arm of the contrast, for the seeds in which all arms have it."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.arm in contrast.weights and (value := row.values.get(contrast.metric)) is not None:
            found.setdefault(row.seed, {})[row.arm] = value
    return {seed: values for seed, values in sorted(found.items()) if values.keys() == contrast.weights.keys()}


def _unknown(contrast: Contrast, rows: Sequence[StudyRow]) -> str:
    """Return that no arm has the contrast's metric though there are values, or an empty text."""
    measured = sorted({name for row in rows for name in row.values})
    if not measured or contrast.metric in measured:
        return ""
    near = difflib.get_close_matches(contrast.metric, measured, n=3, cutoff=0.3) or measured[:5]
    return f"no arm has the metric {contrast.metric!r}; measured were {', '.join(near)}"


def _verdict(contrast: Contrast, found: Sequence[float], mean: float | None, half: float | None) -> tuple[Verdict, str]:
    if mean is None or half is None:
        alike = "all seeds gave the same value" if len(found) > 1 else f"{len(found)} seeds with all arms"
        return "not told apart", f"{alike}, so that the spread is unknown"
    low, high = mean - half, mean + half
    above = -math.inf if contrast.above is None else contrast.above
    below = math.inf if contrast.below is None else contrast.below
    if above < low and high < below:
        return "holds", "the interval lies within the claim's range"
    if high < above or low > below:
        return "does not hold", "the interval lies outside the claim's range"
    end = contrast.above if contrast.above is not None and low <= contrast.above <= high else contrast.below
    return "not told apart", f"an end of the claim's range, {end:g}, lies within the interval; more seeds narrow it"


NOT_RUN = "not run: "
"""How the note of a row begins whose jobs were left out, by a budget or since the arm is hopeless."""


def verdict_of(results: Sequence[ContrastResult], rows: Sequence[StudyRow]) -> Verdict:
    """Return the verdict about the claim: all contrasts must hold, and one that does not hold decides.

    Where no contrast has a seed since jobs were left out, and none has failed, the study was not run.
    """
    notes = [row.note for row in rows if row.note]
    if notes and all(note.startswith(NOT_RUN) for note in notes) and not any(each.per_seed for each in results):
        return "not run"
    verdicts: list[Verdict] = [result.verdict for result in results]
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if set(verdicts) == {"holds"} else "not told apart"


def is_hopeless(study: Study, arm: str, rows: Sequence[StudyRow]) -> str:
    """Return why an arm gets no further seeds, or an empty text.

    Only arms that no contrast needs are left: those that were worse than the best arm's worst seed in each of at least
    two seeds.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if (value := row.values.get(study.metric)) is not None:
            values.setdefault(row.arm, []).append(-value if study.lower else value)
    others = {name: found for name, found in values.items() if name != arm and len(found) >= 2}
    mine = values.get(arm, [])
    if arm not in study.explores or len(mine) < 2 or not others:
        return ""
    best = max(others, key=lambda name: math.fsum(others[name]) / len(others[name]))
    if max(mine) >= min(others[best]):
        return ""
    return f"worse than {best} in each of {len(mine)} seeds, and no contrast needs it"


def summaries(rows: Sequence[StudyRow], metric: str) -> Mapping[str, tuple[float, float | None, int]]:
    """Return mean, half width of the interval and number of seeds of every arm that has the metric."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if (value := row.values.get(metric)) is not None:
            values.setdefault(row.arm, []).append(value)
    return {arm: (*mean_and_interval(found), len(found)) for arm, found in values.items()}
