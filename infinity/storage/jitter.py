"""Pauses before another attempt: those who failed together shall not come back together."""

from __future__ import annotations

import random

_CHANCE = random.Random()


def jittered(pause_s: float, chance: random.Random = _CHANCE) -> float:
    """Return a time between half of a pause and all of it.

    Args:
        pause_s: The longest time.
        chance: Source of the random number; seeded where the result must be repeatable.
    """
    return pause_s * chance.uniform(0.5, 1.0)
