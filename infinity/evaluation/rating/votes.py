"""Choices of raters over pairs of pictures: win rates, Elo, and agreement, with intervals from resampling prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from infinity.config import Config

Choice = Literal["left", "right", "tie"]
_RESAMPLES, _SEED, _ROUNDS = 1000, 20170815, 200
_PRIOR = 0.5
"""Wins that every pair of models gets on top, so that a model that never loses has a finite Elo."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatedPair(Config):
    """Two pictures of one prompt.

    Attributes:
        prompt: Text that both models drew.
        item: Id of the prompt within its benchmark.
        left: Model whose picture stands on the left.
        right: Model whose picture stands on the right.
    """

    id: str
    prompt: str
    item: str
    left: str
    right: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterFile(Config):
    """What one rater chose, as the page writes it.

    Attributes:
        choices: Choice by the id of the pair.
    """

    study: str
    rater: str
    choices: dict[str, Choice]


@dataclass(frozen=True, slots=True)
class Vote:
    """One choice of one rater about one pair.

    Attributes:
        left_wins: 1 where the left picture was chosen, 0 for the right one, 0.5 for a tie.
    """

    pair: RatedPair
    rater: str
    left_wins: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VotedFigure:
    """A figure of a study with its 95 % interval, where resampling prompts says something."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None


def votes_of(pairs: Sequence[RatedPair], study: str, files: Sequence[tuple[str, RaterFile]]) -> list[Vote]:
    """Return all choices of all raters.

    Raises:
        ValueError: A file of another study, a rater twice, an unknown pair, or no choice at all.
    """
    known, wins, votes = {pair.id: pair for pair in pairs}, {"left": 1.0, "right": 0.0, "tie": 0.5}, list[Vote]()
    raters: dict[str, str] = {}
    for where, file in files:
        if file.study != study:
            raise ValueError(f"{where}: expected choices of the study {study}, found those of {file.study}")
        name = " ".join(file.rater.split()).casefold()
        if name in raters:
            raise ValueError(f"{where}: the rater {file.rater!r} is in {raters[name]} too; expected one file per rater")
        raters[name] = where
        if unknown := sorted(set(file.choices) - set(known)):
            raise ValueError(f"{where}: the pair {unknown[0]!r} is not in the study")
        votes += [Vote(known[pair], file.rater, wins[choice]) for pair, choice in file.choices.items()]
    if not votes:
        raise ValueError("expected choices of at least one rater, found none")
    return votes


def win_rate(votes: Sequence[Vote], model: str, other: str) -> VotedFigure:
    """Return the share of comparisons with another model that a model wins; a tie counts half.

    Raises:
        ValueError: The two were never compared.
    """
    found = [(vote, score) for vote in votes if (score := _score(vote, model, other)) is not None]
    if not found:
        raise ValueError(f"{model} and {other} were never compared")

    def rate(weights: Mapping[str, float]) -> float:
        total = sum(weights[vote.pair.item] for vote, _ in found)
        won = sum(score * weights[vote.pair.item] for vote, score in found)
        return won / total if total else math.nan

    return _with_interval(rate, [vote for vote, _ in found])


def elo(votes: Sequence[Vote], models: Sequence[str]) -> dict[str, VotedFigure]:
    """Return the Elo of every model by Bradley and Terry: the mean is 1000, 400 points are odds of 10."""
    everything = {item: 1.0 for item in {vote.pair.item for vote in votes}}
    values = _bradley_terry(votes, models, everything)
    drawn = [_bradley_terry(votes, models, weights) for weights in _resampled(votes)]
    figures = {}
    for model in models:
        n = sum(model in (vote.pair.left, vote.pair.right) for vote in votes)
        low, high = _ends([each[model] for each in drawn])
        figures[model] = VotedFigure(value=values[model], n=n, low=low, high=high)
    return figures


def rater_agreement(votes: Sequence[Vote]) -> tuple[VotedFigure, float | None] | None:
    """Return the share of equal choices of two raters about one pair, and Cohen's kappa over all pairs of raters.

    Returns:
        None where no pair has two raters. Kappa is None where chance alone would give full agreement.
    """
    by_rater: dict[str, dict[str, float]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, {})[vote.pair.id] = vote.left_wins
    items = {vote.pair.id: vote.pair.item for vote in votes}
    equal: list[tuple[str, float]] = []
    expected: list[float] = []
    for one, other in combinations(by_rater.values(), 2):
        both = sorted(set(one) & set(other))
        equal += [(items[pair], float(one[pair] == other[pair])) for pair in both]
        shares = [
            [sum(r[p] == value for p in both) / len(both) for value in (0.0, 0.5, 1.0)] for r in (one, other) if both
        ]
        expected += [sum(a * b for a, b in zip(*shares, strict=True))] * len(both) if both else []
    if not equal:
        return None
    observed, chance = (sum(values) / len(equal) for values in ([value for _, value in equal], expected))

    def rate(weights: Mapping[str, float]) -> float:
        total = sum(weights[item] for item, _ in equal)
        return sum(value * weights[item] for item, value in equal) / total if total else math.nan

    kappa = None if chance >= 1 else (observed - chance) / (1 - chance)
    return _with_interval(rate, votes, n=len(equal)), kappa


def scorer_agreement(
    votes: Sequence[Vote], values: Mapping[str, Mapping[str, float]], sign: float = 1.0
) -> VotedFigure | None:
    """Return the share of choices, ties left out, in which an automatic scorer prefers the same picture.

    Args:
        values: Values by model and prompt.
        sign: 1 where higher is better, -1 where lower is.

    Returns:
        None where the scorer has no value, or the same value, for both pictures of every pair.
    """
    found: list[tuple[Vote, float]] = []
    for vote in votes:
        left, right = (values.get(model, {}).get(vote.pair.item) for model in (vote.pair.left, vote.pair.right))
        if vote.left_wins != 0.5 and left is not None and right is not None and left != right:
            found.append((vote, float((sign * (left - right) > 0) == (vote.left_wins == 1))))
    if not found:
        return None

    def rate(weights: Mapping[str, float]) -> float:
        total = sum(weights[vote.pair.item] for vote, _ in found)
        return sum(value * weights[vote.pair.item] for vote, value in found) / total if total else math.nan

    return _with_interval(rate, [vote for vote, _ in found])


def _score(vote: Vote, model: str, other: str) -> float | None:
    if (vote.pair.left, vote.pair.right) == (model, other):
        return vote.left_wins
    return 1 - vote.left_wins if (vote.pair.right, vote.pair.left) == (model, other) else None


def _bradley_terry(votes: Sequence[Vote], models: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    place = {model: number for number, model in enumerate(models)}
    wins = np.zeros((len(models), len(models)))
    for vote in votes:
        left, right, weight = place[vote.pair.left], place[vote.pair.right], weights[vote.pair.item]
        wins[left, right] += weight * vote.left_wins
        wins[right, left] += weight * (1 - vote.left_wins)
    met = (wins + wins.T) > 0
    wins = wins + _PRIOR * met
    games, strength = wins + wins.T, np.ones(len(models))
    for _ in range(_ROUNDS):  # the minorisation-maximisation of Hunter (2004)
        shares = games / (strength[:, None] + strength[None, :])
        strength = wins.sum(axis=1) / np.maximum(shares.sum(axis=1), 1e-12)
        strength = np.maximum(strength, 1e-12) / np.exp(np.log(np.maximum(strength, 1e-12)).mean())
    return {model: 1000 + 400 * math.log10(strength[number]) for model, number in place.items()}


def _resampled(votes: Sequence[Vote]) -> list[dict[str, float]]:
    """Return weights of the prompts for every replicate; no replicate where there is one prompt."""
    items = sorted({vote.pair.item for vote in votes})
    if len(items) < 2:
        return []
    random = np.random.Generator(np.random.PCG64(_SEED))
    counts = random.multinomial(len(items), np.full(len(items), 1 / len(items)), _RESAMPLES)
    return [dict(zip(items, row.astype(float).tolist(), strict=True)) for row in counts]


def _with_interval(
    figure: Callable[[Mapping[str, float]], float], votes: Sequence[Vote], n: int | None = None
) -> VotedFigure:
    everything = dict.fromkeys({vote.pair.item for vote in votes}, 1.0)
    low, high = _ends([figure(weights) for weights in _resampled(votes)])
    return VotedFigure(value=figure(everything), n=len(votes) if n is None else n, low=low, high=high)


def _ends(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    known = [value for value in values if not math.isnan(value)]
    if not known or max(known) - min(known) < 1e-12:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
