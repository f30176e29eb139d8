"""Times that a variable of the environment sets: seconds within bounds, or a sentence."""

from __future__ import annotations

import math
import os

DAY_S = 86_400.0


def seconds_of(variable: str, default: float, least: float) -> float:
    """Return the seconds that an environment variable sets.

    Args:
        variable: Name of the variable.
        default: Seconds where it is not set, or empty.
        least: Smallest value; the largest is a day.

    Raises:
        ValueError: The variable holds something else.
    """
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not least <= seconds <= DAY_S:
        raise ValueError(f"{variable}: expected seconds, from {least:g} to a day, got {text!r:.80}")
    return seconds
