"""All checks in their order."""

from __future__ import annotations

from collections.abc import Iterator

from infinity.jobs.doctor import cluster, machine, places, services
from infinity.jobs.doctor.finding import Check, Finding, Setup

CHECKS: tuple[Check, ...] = (
    machine.versions,
    machine.devices,
    machine.limits,
    machine.forking,
    places.outputs,
    places.clocks,
    places.safety,
    places.keys,
    services.logins,
    services.prefect,
    services.database,
    services.proxies,
    cluster.cluster,
    machine.optional,
)


def examine(setup: Setup) -> Iterator[Finding]:
    """Yield what every check finds, one after the other; nothing is changed."""
    for check in CHECKS:
        yield from check(setup)
