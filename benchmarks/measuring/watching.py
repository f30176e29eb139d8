"""A command and all processes that it starts, watched from outside: wall clock, processor time and memory.

``python -m benchmarks.measuring.watching MODULE:FUNCTION ARGUMENTS`` calls a function with a JSON list of arguments and
prints what it returns as a line of JSON (`call`).

Processes are found by a mark in their environment, since a cluster's processes leave the tree of those who started
them. Linux only (``/proc``).
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARK = "BENCHMARK_MARK"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What a command took.

    Attributes:
        wall_s: Seconds from the line ``begin`` on its standard output to the line ``end``.
        cpu_s: Processor time of all its processes between the two lines.
        peak_bytes: Largest sum of the resident memory of all its processes, at any time; a page that several hold
            counts once (the kernel's proportional set size).
        largest_bytes: Largest resident memory of a single process, shared pages in proportion.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    largest_bytes: int
    lines: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """Return seconds, MiB, the present load, and what the command told as JSON in its last line."""
        return {
            "wall_s": round(self.wall_s, 1),
            "cpu_s": round(self.cpu_s, 1),
            "peak_mib": round(self.peak_bytes / 2**20),
            "largest_process_mib": round(self.largest_bytes / 2**20),
            "load": round(os.getloadavg()[0], 1),
            **json.loads(self.lines[-1]),
        }


def call(place: str, *arguments: Any) -> list[str]:
    """Return the command that calls a function in a process of its own, for `watch`.

    Args:
        place: Place of the function, such as "benchmarks.loading.scale:run_flow".
        arguments: JSON values that the function is called with.
    """
    return [sys.executable, "-m", "benchmarks.measuring.watching", place, json.dumps(arguments)]


def watch(command: Sequence[str], environment: dict[str, str] | None = None, *, every_s: float = 0.5) -> Watched:
    """Run a command that says ``begin`` and ``end``.

    Args:
        command: Command line.
        environment: Variables on top of the present environment.
        every_s: Seconds between two looks at all processes. A look takes some 50 ms, for the kernel's sums of shared
            memory; what a process used after the last look before its end is lost.

    Raises:
        RuntimeError: The process failed, or did not say that it was done; the message holds the end of its output.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {}), _MARK: mark, "PYTHONUNBUFFERED": "1"},
    )
    watcher = _Watcher(mark, every_s)
    watcher.start()
    lines, moments = [], {}
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] in ("begin", "end"):
            moments[lines[-1]] = (time.perf_counter(), watcher.look())
    process.stdout.close()
    code = process.wait()
    watcher.stop()
    if code or set(moments) != {"begin", "end"}:
        raise RuntimeError(f"{command[:3]} ended with {code}:\n" + "\n".join(lines[-15:]))
    (begun, cpu_before), (ended, cpu_after) = moments["begin"], moments["end"]
    return Watched(
        wall_s=ended - begun,
        cpu_s=cpu_after - cpu_before,
        peak_bytes=watcher.peak_bytes,
        largest_bytes=watcher.largest_bytes,
        lines=tuple(lines),
    )


class _Watcher(threading.Thread):
    """Looks at all marked processes again and again; what a process used stays counted when it has ended."""

    def __init__(self, mark: str, every_s: float) -> None:
        super().__init__(daemon=True)
        self._mark, self._every_s = f"{_MARK}={mark}".encode(), every_s
        self._known: dict[int, bool] = {}
        self._cpu: dict[int, float] = {}
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.peak_bytes = self.largest_bytes = 0

    def run(self) -> None:
        while not self._done.wait(self._every_s):
            self.look()

    def stop(self) -> None:
        self._done.set()
        self.join()

    def look(self) -> float:
        """Return the processor time so far."""
        with self._lock:
            resident = 0
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit() and self._is_marked(int(folder.name)):
                    own = self._read(int(folder.name))
                    resident += own
                    self.largest_bytes = max(self.largest_bytes, own)
            self.peak_bytes = max(self.peak_bytes, resident)
            return sum(self._cpu.values())

    def _is_marked(self, pid: int) -> bool:
        if pid not in self._known:
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                return False
            self._known[pid] = self._mark in environment.split(b"\0")
        return self._known[pid]

    def _read(self, pid: int) -> int:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        resident = sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        self._cpu[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
        return resident


if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(sys.argv[2]))))
