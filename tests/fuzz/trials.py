"""Trials one after the other, each with a time limit; what went wrong is kept with the number that repeats it."""

from __future__ import annotations

import random
import shutil
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tests.fuzz.doors import DOORS, FORESEEN
from tests.fuzz.files import FILES
from tests.fuzz.networks import NETWORKS
from tests.fuzz.recent import RECENT
from tests.fuzz.services import SERVICES
from tests.fuzz.world import World

EVERY_DOOR = {**DOORS, **FILES, **NETWORKS, **RECENT, **SERVICES}

LIMIT_S = 10.0
"""Of processor time; and of a clock, unless a machine may be too busy for that."""

_FEWEST = 5
"""Trials however slow the machine is."""


class Hang(BaseException):
    """A trial that did not end in time; no handler of the program's catches it."""


@dataclass
class Found:
    """What happened at one door.

    Attributes:
        door: Its name.
        seed: Of all trials.
        trials: How many.
        refused: Trials that ended in an error for the user.
        seconds: All together.
        slowest_s: The longest trial.
        failures: One a kind: the number of the first trial, and what it ended in.
    """

    door: str
    seed: int
    trials: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "door": self.door,
            "seed": self.seed,
            "trials": self.trials,
            "refused": self.refused,
            "seconds": round(self.seconds, 1),
            "slowest_s": round(self.slowest_s, 2),
            "failures": [
                {"trial": trial, "times": self.counts[kind], "what": what}
                for kind, (trial, what) in self.failures.items()
            ],
        }


def knock(
    door: str, world: World, *, seconds: float, seed: int, trial: int | None = None, wall_s: float | None = None
) -> Found:
    """Trials at a door until the time is over.

    Args:
        door: One of ``EVERY_DOOR``.
        world: Good inputs.
        seconds: When to stop.
        seed: Of all trials.
        trial: Only this one, whose traceback is printed.
        wall_s: Seconds on the clock that a trial may take; ``LIMIT_S`` if None.
    """
    found = Found(door, seed)
    begin = time.monotonic()
    number = 0 if trial is None else trial
    while trial is None or number == trial:
        _try(found, door, world, number, is_alone=trial is not None, wall_s=wall_s or LIMIT_S)
        number += 1
        found.seconds = time.monotonic() - begin
        if found.seconds >= seconds and number >= _FEWEST:
            break
    return found


def _try(found: Found, door: str, world: World, number: int, *, is_alone: bool, wall_s: float) -> None:
    shutil.rmtree(world.scratch, ignore_errors=True)
    world.scratch.mkdir()
    found.trials += 1
    begin = time.monotonic()
    try:
        with _limited(wall_s), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            EVERY_DOOR[door](world, random.Random(f"{door} {found.seed} {number}"))
    except FORESEEN as error:
        found.refused += 1
        if is_alone:
            print(f"refused: {error}")
    except (Exception, Hang) as error:
        last = traceback.extract_tb((error.__cause__ or error).__traceback__)[-2 if isinstance(error, Hang) else -1]
        kind = f"{type(error.__cause__ or error).__name__} at {last.filename}:{last.lineno}"
        found.counts[kind] += 1
        found.failures.setdefault(kind, (number, f"{kind}: {str(error)[:400]}"))
        if is_alone:
            traceback.print_exc()
    found.slowest_s = max(found.slowest_s, time.monotonic() - begin)


@contextmanager
def _limited(wall_s: float) -> Iterator[None]:
    def ring(number: int, _frame: FrameType | None) -> None:
        raise Hang(f"more than {wall_s:g} s" if number == signal.SIGALRM else f"more than {LIMIT_S:g} s of a processor")

    clocks = ((signal.SIGALRM, signal.ITIMER_REAL, wall_s), (signal.SIGPROF, signal.ITIMER_PROF, LIMIT_S))
    before = {number: signal.signal(number, ring) for number, _, _ in clocks}
    for _, timer, limit in clocks:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, timer, _ in clocks:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
