"""What the default suite leaves out: cases of long sweeps, and tests whose law a cheaper test has too.

``@pytest.mark.sweep(6)`` on a parametrized test runs six of its cases, and ``@pytest.mark.exhaustive("reason")`` none;
``--exhaustive`` runs all. Which cases run depends on their ids alone, not on order, machine or process. What ``-k``
or an id chooses is not sampled below the number that the test asks for, so that one chosen case always runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytest

SWEEP, EXHAUSTIVE = "sweep", "exhaustive"
"""Marks of a test of many cases, and of one that runs with ``--exhaustive`` only."""


def sample_of(ids: Iterable[str], number: int) -> set[str]:
    """Return ``number`` of the ids (all, where there are fewer): those whose SHA-256 is smallest."""
    return set(sorted(ids, key=lambda each: hashlib.sha256(each.encode()).digest())[:number])


class Sample:
    """Plug-in that leaves out what runs with ``--exhaustive`` only."""

    @pytest.hookimpl(trylast=True)  # after -k and -m have chosen
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Drop cases of sweeps, and give tests that run with ``--exhaustive`` only a reason to skip."""
        cases: dict[str, list[pytest.Item]] = {}
        for item in items:
            if mark := item.get_closest_marker(EXHAUSTIVE):
                item.add_marker(pytest.mark.skip(reason=f"{mark.args[0]}; runs with --exhaustive"))
            if item.get_closest_marker(SWEEP):
                cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
        left_out: set[str] = set()
        for same in cases.values():
            ids = {item.nodeid for item in same}
            left_out |= ids - sample_of(ids, same[0].get_closest_marker(SWEEP).args[0])  # type: ignore[union-attr]
        if left_out:
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
            items[:] = [item for item in items if item.nodeid not in left_out]
