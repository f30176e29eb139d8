"""The environment variables that every process of Infinity runs with, read from ``infra/env.sh``."""

import os
import re
import socket
from collections.abc import MutableMapping
from pathlib import Path

_LINE = re.compile(r"export ([A-Z][A-Z0-9_]*)=([^\s\"'$`]+)")
_ENV_FILE = Path(__file__).with_name("env.sh")


def common_environment(path: Path = _ENV_FILE) -> dict[str, str]:
    """Return names and values of ``env.sh``: no telemetry, no promotional pages, patient start-up of Prefect.

    Raises:
        ValueError: A line is neither blank, nor a comment, nor a plain ``export NAME=value``.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path.name} line {number}: expected 'export NAME=value', found {line!r}")
        values[match[1]] = match[2]
    return values


def apply_common_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what ``env.sh`` names and the user has not set already."""
    for name, value in common_environment().items():
        environ.setdefault(name, value)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free_port(port: int) -> bool:
    """Return whether a server could listen on this TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a server that just ended is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
