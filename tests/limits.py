"""How long tests wait for what must happen: never a measure of speed, only the end of a test that is broken.

A machine may be busy for half a minute, so nothing that is expected gets less than this. What is expected *not* to
happen is made certain by an event, not by waiting for a moment.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

AGES_S = 600.0


def wait_until(look: Callable[[], T], what: str, *, period_s: float = 0.05) -> T:
    """The first true value of ``look``; the test fails if there is none in ages."""
    deadline = time.monotonic() + AGES_S
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {AGES_S:.0f} s")
        time.sleep(period_s)
    return found
