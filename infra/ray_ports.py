"""Ports of a node's own services for ``ray start``, which picks them at random otherwise and may pick one twice."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from infra.environment import is_free_port

OPTIONS = (
    "--node-manager-port", "--object-manager-port", "--dashboard-agent-listen-port", "--dashboard-agent-grpc-port",
    "--runtime-env-agent-port", "--metrics-export-port",
)  # fmt: skip
FIRST = 20_000
"""Ray's workers begin at 10,000 where nobody says otherwise."""
_KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def port_options(ports: Sequence[int]) -> list[str]:
    """Return options of ``ray start`` that name the port of each service of a node.

    Args:
        ports: Six different ports.

    Raises:
        ValueError: There are more or fewer ports, or one comes twice.
    """
    if len(set(ports)) != len(OPTIONS) or len(ports) != len(OPTIONS):
        raise ValueError(f"ports: expected {len(OPTIONS)} different ones, got {list(ports)}")
    return [f"{option}={port}" for option, port in zip(OPTIONS, ports, strict=True)]


def free_ports(start: int | None = None) -> list[int]:
    """Return ports for a node's services that nobody listens on and that the kernel gives to no connection.

    Args:
        start: First port that is looked at; None for one that follows from the number of this process, so that
            two nodes that start at once look at different ones.

    Raises:
        OSError: Not enough ports are free below those that the kernel gives to connections.
    """
    found: list[int] = []
    start = FIRST + len(OPTIONS) * (os.getpid() % 1000) if start is None else start
    for port in range(start, _first_of_connections()):
        if is_free_port(port):
            found.append(port)
        if len(found) == len(OPTIONS):
            return found
    raise OSError(
        f"of the ports from {start} to {_first_of_connections() - 1} only {len(found)} are free, and a node of Ray "
        f"needs {len(OPTIONS)}; stop what listens there, or let RAY_ADDRESS name a cluster that runs"
    )


def _first_of_connections() -> int:
    """Return the first port that the kernel gives to connections; Linux begins at 32,768."""
    with suppress(OSError, ValueError, IndexError):
        if (first := int(_KERNEL_RANGE.read_text().split()[0])) > FIRST + 10_000:
            return first
    return 32_768
