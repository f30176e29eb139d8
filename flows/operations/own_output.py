"""A flow's output in a file of its own, so that the death of the worker that started it does not end it.

A worker reads what its flows say through a pipe. When it dies, the next line of a flow finds the pipe broken, and the
library that colours the lines ends the process.
"""

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from infra.server.keys import private_folder
from infra.settings import settings

KEPT = 50
"""Files of flows that stay; older ones are deleted."""


def say_into_own_file(flow_run: str) -> Path | None:
    """Let standard output and error of this process go to a file, if they are pipes; return the file.

    Args:
        flow_run: Id of the flow run, which names the file.
    """
    if not all(stat.S_ISFIFO(os.fstat(number).st_mode) for number in (1, 2)):
        return None
    try:
        folder = private_folder(settings().state.resolve() / "flows")
        path = folder / f"{flow_run}.log"
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except (OSError, ValueError):
        return None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(opened, number)
    os.close(opened)
    for old in sorted(folder.glob("*.log"), key=_time)[:-KEPT]:
        with suppress(OSError):
            old.unlink()
    return path


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
