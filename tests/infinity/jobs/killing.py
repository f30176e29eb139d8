"""Processes that tests kill: a driver or a flow with the Ray cluster that it starts, in a session of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.limits import AGES_S

REPOSITORY = Path(__file__).parents[3]


class Victim:
    """A Python module that runs as a process; what it starts belongs to its session, and is gone after ``end``.

    Args:
        arguments: The module and what it is told.
        log: File that gets its output, behind what is there.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        # A killed driver leaves Ray's folder behind; sockets need a short path.
        self._scratch = tempfile.mkdtemp(prefix="kill-", dir="/tmp")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "TMPDIR": self._scratch},
            )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        """Whether the process itself is gone, whatever it started."""
        return self.process.poll() is not None

    def workers(self) -> list[int]:
        """Processes of this session that train."""
        return [number for number, name in self._session() if name.startswith("ray::RayTrain")]

    def kill_driver(self) -> None:
        """Kill the process alone; its cluster has to notice by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=AGES_S)

    def end(self) -> None:
        """Kill everything of the session."""
        while left := [number for number, _ in self._session()]:
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            self.process.poll()
        self.process.wait(timeout=AGES_S)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _session(self) -> Iterator[tuple[int, str]]:
        """Number and name of every living process of the session."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = status.read_text()
                name, rest = text.partition("(")[2].rpartition(")")[0], text.rpartition(")")[2].split()
                if int(rest[3]) == self.process.pid and rest[0] not in "ZX":
                    yield int(status.parent.name), name
