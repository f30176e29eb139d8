"""When a switch of a training counts as changing nothing: rules, fixed before the table was made, and the table.

Three kinds of switches need three kinds of rules. Where the same numbers are to be computed, no bit may change. Where
the same sums are added in another order, the losses may differ by what rounding does, and that is measured on the very
control. Where other numbers are drawn or other pictures seen, only the results can be compared, over several seeds.
Planted faults show what each rule finds.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

EARLY = 10
"""Steps in which rounding has not grown yet."""
EARLY_LIMIT = 1e-6
"""Largest difference of a loss (about 0.6 nats per bit, where the last bit of a float32 is 6e-8) in these steps."""
TIMES_ROUNDING = 10.0
"""Largest difference in all steps, over what the control's own losses move when weights are nudged by a last bit."""

NUM_SEEDS = 20
"""Of the trainings that are compared by their results alone."""
STUDENT = 2.093
"""Student's quantile for 95 % intervals of a mean, by number of values."""

Rule = Literal["bits", "rounding", "seeds"]
NAMES: dict[Rule, str] = {
    "bits": "no bit may change",
    "rounding": "only rounding may change",
    "seeds": "the result may not change",
}


@dataclass(frozen=True)
class SwitchRun:
    """What a training came to.

    Attributes:
        losses: Loss of every step, in nats per bit.
        weights: Checksum of the last weights; empty where they are shared out among processes.
        held: Loss on the next batches, without draws; None with two processes.
        averaged: The same with averaged weights; None where there are none.
        seconds: Median duration of a step.
    """

    losses: tuple[float, ...]
    weights: str
    held: float | None
    averaged: float | None
    seconds: float

    @classmethod
    def parse(cls, text: str) -> SwitchRun:
        """Return a result that was read from JSON."""
        values = json.loads(text)
        return cls(**values | {"losses": tuple(values["losses"])})


@dataclass(frozen=True)
class SwitchRow:
    """One switch with its trainings.

    Attributes:
        pairs: Trainings without and with the switch: one pair, or one per seed.
        rounding: Largest differences between the control and itself with nudged weights, at first and in all steps.
        planted: Whether this is a fault, which the rule has to find.
    """

    name: str
    rule: Rule
    pairs: tuple[tuple[SwitchRun, SwitchRun], ...]
    rounding: tuple[float, float] = (0.0, 0.0)
    planted: bool = False

    @property
    def apart(self) -> tuple[float, float]:
        """Largest difference of the losses of the first pair, at first and in all steps."""
        return apart(*self.pairs[0])

    @property
    def results(self) -> np.ndarray:
        """Results without and with the switch, a row a seed: loss on the next batches."""
        return np.array([[a.held, b.held] for a, b in self.pairs], dtype=float)

    @property
    def mean_difference(self) -> float:
        """With minus without the switch, the mean over the seeds."""
        return float(np.diff(self.results, axis=1).mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the controls over the seeds."""
        return float(self.results[:, 0].std(ddof=1))

    @property
    def same(self) -> bool:
        """Whether the rule is kept."""
        first, whole = self.apart
        if self.rule == "bits":
            return all(a.losses == b.losses and a.weights == b.weights for a, b in self.pairs)
        if self.rule == "rounding":
            return first <= EARLY_LIMIT and whole <= TIMES_ROUNDING * self.rounding[1]
        return abs(self.mean_difference) <= self.spread

    @property
    def verdict(self) -> str:
        """Return the verdict in words."""
        if self.planted:
            return "missed" if self.same else "found"
        return "the same" if self.same else "DIFFERENT"


def apart(a: SwitchRun, b: SwitchRun) -> tuple[float, float]:
    """Return the largest difference of the losses of two trainings, in the first steps and in all."""
    differences = [abs(x - y) for x, y in zip(a.losses, b.losses, strict=True)]
    return max(differences[:EARLY]), max(differences)


def rules(num_nudged: int) -> list[str]:
    """Return the rules in words."""
    bits, rounding, seeds = (name.capitalize() for name in NAMES.values())
    texts = (
        f"**{bits}**: the losses of all steps and the last weights are equal to the last bit.",
        f"**{rounding}**: the same sums in another order. The losses of the first {EARLY} steps differ by at most "
        f"{EARLY_LIMIT:g}, and those of all steps by at most {TIMES_ROUNDING:g} times what rounding does to the "
        f"control: the largest difference between it and {num_nudged} trainings of its kind in which half of the "
        "weights are moved to the next larger or smaller float32 before every step.",
        f"**{seeds}**: other numbers are drawn, or other pictures seen. Over {NUM_SEEDS} seeds the mean difference to "
        "the control of the same seed is at most the standard deviation of the controls.",
        "**Planted** rows are faults, which the rules have to find.",
    )
    return [prose(text, bullet="- ") for text in texts]


def prose(text: str, *, bullet: str = "") -> str:
    """Return a paragraph, or a point of a list, at the width of the documents."""
    return textwrap.fill(
        text,
        width=100,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[SwitchRow]) -> list[str]:
    """Return the rows, those of each rule under a head of their own."""
    lines: list[str] = []
    for rule in NAMES:
        chosen = [row for row in rows if row.rule == rule]
        if chosen:
            lines += [
                "",
                f"## {NAMES[rule].capitalize()}",
                "",
                *(_seeds(chosen) if rule == "seeds" else _exact(chosen)),
            ]
    return lines


def _exact(rows: Sequence[SwitchRow]) -> list[str]:
    """Return rows of the rules "bits" (last weights are shown) and "rounding" (the control's own rounding is shown)."""
    by_bits = rows[0].rule == "bits"
    shown = "last weights" if by_bits else f"rounding of the control: first {EARLY}, all"
    lines = [
        f"| switch | differences of losses: first {EARLY} steps, all | {shown} | next batches: without, with "
        "| ms per step: without, with | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        a, b = row.pairs[0]
        weights = "equal" if a.weights == b.weights else "differ"
        lines.append(
            f"| {_name(row)} | {_pair(row.apart)} | {weights if by_bits else _pair(row.rounding)} "
            f"| {_number(a.held)}, {_number(b.held)} | {1000 * a.seconds:.0f}, {1000 * b.seconds:.0f} "
            f"| {row.verdict} |"
        )
    return lines


def _seeds(rows: Sequence[SwitchRow]) -> list[str]:
    lines = [
        "| switch | seeds | next batches, mean: without, with | mean difference (95 % interval) |"
        " standard deviation of controls | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        without, within = row.results.mean(axis=0)
        half = STUDENT * float(np.diff(row.results, axis=1).std(ddof=1)) / len(row.pairs) ** 0.5
        middle = row.mean_difference
        lines.append(
            f"| {_name(row)} | {len(row.pairs)} | {without:.4f}, {within:.4f} "
            f"| {middle:+.4f} ({middle - half:+.4f} to {middle + half:+.4f}) | {row.spread:.4f} | {row.verdict} |"
        )
    return lines


def _name(row: SwitchRow) -> str:
    return f"*planted:* {row.name}" if row.planted else row.name


def _pair(values: tuple[float, float]) -> str:
    return ", ".join("0" if value == 0 else f"{value:.1e}" for value in values)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
