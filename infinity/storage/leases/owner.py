"""A process as others can know it: what to tell people of it, and whether it is certainly dead."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infinity.config import Config
from infinity.ranges import Range

MAX_PID = 2**31 - 1
"""Largest number of a process; the system takes no larger one, and negative ones are groups."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner(Config):
    """A process.

    Attributes:
        who: User, machine and process, for people.
        machine: Start of the machine and its space of process numbers; empty where neither can be known.
        number: Number of the process (PID).
        started: Start of the process, in ticks since the start of the machine: numbers are used again.
    """

    who: str
    machine: str
    number: Annotated[int, Range(1, MAX_PID)]
    started: int

    @property
    def is_this_process(self) -> bool:
        """True for the process that asks."""
        return bool(self.machine) and self == this_process()

    @property
    def is_dead(self) -> bool:
        """True where the process has certainly ended; False also where nobody here can know."""
        if not self.machine or self.machine != _machine():
            return False
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's
        status = _status(self.number)
        return status is not None and (status[0] in "ZXx" or status[1] != self.started)


def this_process() -> Owner:
    """Return the process that asks."""
    number = os.getpid()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    status = _status(number)
    return Owner(
        who=f"{user} on {socket.gethostname()}, process {number}",
        machine=_machine() if status else "",
        number=number,
        started=status[1] if status else 0,
    )


def _machine() -> str:
    """Return the machine's name: two containers of it have the same start, but other numbers for their processes."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _status(number: int) -> tuple[str, int] | None:
    """Return the state and the start time of a process; None where they cannot be read."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return (fields[0], int(fields[19])) if len(fields) > 19 else None
