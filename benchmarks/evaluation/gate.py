"""What the gate promises, simulated: ``python -m benchmarks.evaluation.gate``, some minutes.

Every cell is 1,000 trials of one metric, four pictures per prompt:

* independent: prompts of Beta(2, 1) difficulty, all pictures drawn by chance; a loss takes the same share of each.
* related: the same by groups of five neighbours that become better or worse together.
* lost: the candidate equals the champion but for prompts that it loses wholly; unchanged, as many are won and lost.
* ceiling: as independent, but nearly all prompts are right (Beta(40, 1)).

Then fifty nights: candidates that gain in one metric and lose 0.9 margins in another, each compared with the family.
Exit status 1 where a promise is broken: more than 5 % of unchanged models blocked, more than 2.5 % of those that lost
two margins promoted, or, from 250 prompts on, less than 95 % of these blocked; or a family that slid by more than a
margin and a half.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.evaluation.promotion.champions import Champion, Champions
from infinity.evaluation.promotion.contest import contest
from infinity.evaluation.promotion.gate import GateReport, ScoredModel, compare
from infinity.evaluation.promotion.gate_rule import judge
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.score import Score

TRIALS, PICTURES, GROUP = 1000, 4, 5
SIZES = (10, 12, 15, 20, 30, 50, 100, 250, 500, 1000)
KINDS = ("independent", "related", "lost", "ceiling")
CONFIG = GateConfig(num_resamples=2000)


@dataclass(frozen=True, slots=True)
class TrialCell:
    """Shares of the trials of one kind of sample, one size, one margin."""

    kind: str
    n: int
    delta: float
    unchanged_blocked: float
    unchanged_passed: float
    worse_blocked: float
    worse_passed: float

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        caught = self.n < 250 or self.worse_blocked >= 0.95
        return self.unchanged_blocked <= 0.05 and self.worse_passed <= 0.025 and caught


def gains(kind: str, n: int, loss: float, random: np.random.Generator, trials: int = TRIALS) -> np.ndarray:
    """Return gains of ``n`` prompts in ``trials`` trials, ``-loss`` on average."""
    if kind == "lost":
        return _lost(n, loss, random, trials)
    if kind == "related":
        swing = min(0.2, (1 - 2 * loss) / 3) if loss else 0.2
        right = random.uniform(loss + swing, 1 - swing, (n, trials))
        groups = random.choice((-swing, swing), (-(-n // GROUP), trials))
        left = right - loss + np.repeat(groups, GROUP, axis=0)[:n]
    else:
        a = 40.0 if kind == "ceiling" else 2.0
        right = random.beta(a, 1.0, (n, trials))
        left = right * (1 - loss * (a + 1) / a)
    lost: np.ndarray = (random.binomial(PICTURES, left) - random.binomial(PICTURES, right)) / PICTURES
    return lost


def _lost(n: int, loss: float, random: np.random.Generator, trials: int) -> np.ndarray:
    old = random.binomial(PICTURES, random.beta(2.0, 1.0, (n, trials))) / PICTURES
    chance = random.random((n, trials))
    if loss:
        return np.where(chance < loss / (2 / 3), -old, 0.0)
    return np.where(chance < 0.05, -old, np.where(chance > 0.95, old, 0.0))


def simulate(kind: str, n: int, delta: float, *, seed: int = 14, trials: int = TRIALS) -> TrialCell:
    """Return the shares of one cell."""
    random = np.random.default_rng([seed, n, KINDS.index(kind)])
    shares = []
    for loss in (0.0, 2 * delta):
        found = judge(gains(kind, n, loss, random, trials), np.full(trials, delta), CONFIG, num_metrics=1)
        passed = ~found["worse"] & ~found["too_small"]
        shares += [float(found["worse"].mean()), float(passed.mean())]
    return TrialCell(kind, n, delta, *shares)


def cells(deltas: tuple[float, ...] = (0.08, 0.25), sizes: tuple[int, ...] = SIZES) -> Iterator[TrialCell]:
    """Yield all cells, one after the other."""
    for delta in deltas:
        for kind in KINDS:
            for n in sizes:
                yield simulate(kind, n, delta)


def fifty_nights(
    step: float, *, n: int = 300, nights: int = 50, seed: int = 14, nights_per_protocol: int = 50
) -> list[float]:
    """Return the champion's true chance in a metric after every night, where each candidate loses ``step`` in it.

    In another metric every candidate gains, so that it has a reason to be promoted. The protocol changes after some
    nights; earlier models are then scored again under the new one.
    """
    random = np.random.default_rng(seed)
    models: dict[str, ScoredModel] = {}
    truth: dict[str, float] = {}
    course = []
    with tempfile.TemporaryDirectory() as root:
        champions = Champions(storage.join(root, "registry"))
        for night in range(nights):
            history = champions.history("family")
            present = truth[history[-1].model_digest] if history else 0.9 + step
            name, gained = f"{night:016x}", 0.1 + 0.8 * night / nights
            truth[name] = max(present - step, 0.0)
            chances = {"geneval.overall": truth[name], "scene_geneval.overall": gained}
            models[name] = _measured(root, name, chances, n, random, f"simulated/{night // nights_per_protocol}")
            _night(champions, history, models, name)
            course.append(truth[champions.history("family")[-1].model_digest])
    return course


def _measured(
    root: str, name: str, chances: Mapping[str, float], n: int, random: np.random.Generator, protocol: str
) -> ScoredModel:
    uri = storage.join(root, name)
    storage.write_text(storage.join(uri, MARKER_FILE), f"{name}\n")
    items = {metric: {f"{i:05d}": value / PICTURES for i, value in enumerate(random.binomial(PICTURES, chance, n))}
             for metric, chance in chances.items()}  # fmt: skip
    scores = {
        metric: Score(metric=metric, value=sum(values.values()) / n, unit="share", n=n, protocol=protocol)
        for metric, values in items.items()
    }
    return ScoredModel(model=uri, digest=name, setting="s", scores=scores, items=items)


def _night(champions: Champions, history: tuple[Champion, ...], models: Mapping[str, ScoredModel], name: str) -> None:
    """Run one evaluation with its gate."""
    candidate = models[name]
    scores = tuple(candidate.scores.values())

    def against(champion: Champion, only: object) -> GateReport | None:
        metrics = only if isinstance(only, tuple) else None
        old = models[champion.model_digest]
        again = {metric: score.replace(protocol=scores[0].protocol) for metric, score in old.scores.items()}
        return compare(replace(old, scores=again), candidate, CONFIG, only=metrics)

    if history and contest(history, scores, against, CONFIG).end != "promote":
        return
    champions.promote(
        "family", follows=history[-1] if history else None, model=candidate.model, model_digest=name,
        evaluation=candidate.model, scores=scores, why="simulated",
    )  # fmt: skip


def main() -> int:
    """Print every cell, then the nights; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delta", type=float, action="append", help="margins; 0.08 and 0.25 by default")
    deltas = tuple(parser.parse_args().delta or (0.08, 0.25))
    print(
        f"{TRIALS} trials a cell        unchanged: passed blocked undecided   2 delta worse: passed blocked undecided"
    )
    broken = 0
    for cell in cells(deltas):
        same = (cell.unchanged_passed, cell.unchanged_blocked, 1 - cell.unchanged_passed - cell.unchanged_blocked)
        worse = (cell.worse_passed, cell.worse_blocked, 1 - cell.worse_passed - cell.worse_blocked)
        row = "".join(f"{share:10.3f}" for share in (*same, *worse))
        print(
            f"delta {cell.delta:.2f} {cell.kind:12} n={cell.n:5d} {row}{'' if cell.holds else '   BROKEN'}", flush=True
        )
        broken += not cell.holds
    delta = 0.04
    for each in (50, 10):
        course = fifty_nights(0.9 * delta, nights_per_protocol=each)
        slid = max(course) - course[-1]
        ends = f"from {max(course):.3f} to {course[-1]:.3f}, {slid / delta:.2f} delta below"
        print(f"50 nights of 0.9 delta (0.036), a new protocol every {each} nights: {ends}")
        broken += slid > 1.5 * delta
    print("all promises are kept" if not broken else f"{broken} promises are broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
