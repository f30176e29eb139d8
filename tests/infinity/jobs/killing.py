"""Processes that tests kill: workers of a job here, or a driver or flow with all that it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from infinity.jobs.progress import Progress
from infinity.jobs.training import STATE_FOLDER, TrainReport, TrainSpec
from tests.limits import AGES_S

REPOSITORY = Path(__file__).parents[3]
WORKER = "ray::RayTrain"
"""How the names of processes that train begin."""

S = TypeVar("S", bound=TrainSpec)


class Victim:
    """A Python module that runs as a process; what it starts inherits its environment, and is gone after ``end``.

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
        """Processes that train for this one."""
        return [process.number for process in self.family() if process.name.startswith(WORKER)]

    def kill_driver(self) -> None:
        """Kill the process alone; its cluster has to notice by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=AGES_S)

    def signal_group(self, number: int) -> None:
        """Signal the whole process group, as a terminal, a service manager and Prefect's runner do."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Kill the process and everything that it started, whatever its session."""
        while left := list(self.family()):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.number, signal.SIGKILL)
            self.process.poll()
        self.process.wait(timeout=AGES_S)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def family(self) -> Iterator[Process]:
        """The process and every living one that it started, also after its death: all have its scratch folder."""
        mark = f"TMPDIR={self._scratch}".encode()
        for process in living():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{process.number}/environ").read_bytes().split(b"\0"):
                    yield process


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine: its number and name, and the number of its parent."""

    number: int
    name: str
    parent: int


def living() -> Iterator[Process]:
    """Every process that is not dead."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = status.read_text()
            name, rest = text.partition("(")[2].rpartition(")")[0], text.rpartition(")")[2].split()
            if rest[0] not in "ZX":
                yield Process(int(status.parent.name), name, parent=int(rest[1]))


def own_workers() -> list[int]:
    """Processes that train for a job of this process."""
    found = {process.number: process for process in living()}

    def is_ours(number: int) -> bool:
        return number == os.getpid() or (number in found and is_ours(found[number].parent))

    return [number for number, process in found.items() if process.name.startswith(WORKER) and is_ours(number)]


def newest_step(spec: TrainSpec) -> int:
    """Step of the newest stored state, -1 without one."""
    markers = (Path(spec.folder) / STATE_FOLDER).glob("step-*/COMMITTED")
    return max((int(marker.parent.name.removeprefix("step-")) for marker in markers), default=-1)


@contextlib.contextmanager
def one_worker_killed(spec: TrainSpec, step: int) -> Iterator[None]:
    """Inside the block, when a state of this step or a later one is stored, the last worker gets a SIGKILL.

    As if the machine's memory had run out: it has no time to say a word.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            if newest_step(spec) >= step and (workers := own_workers()):
                os.kill(max(workers), signal.SIGKILL)
                return

    thread = threading.Thread(target=watch, name="killer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def train_with_a_kill(
    run: Callable[..., TrainReport], spec_in: Callable[[str], S], step: int
) -> tuple[S, TrainReport, list[int]]:
    """A job that loses a worker after a step and goes on: its spec, its report, and the steps that it told of.

    Args:
        run: The job.
        spec_in: The spec with an output folder of this name.
        step: When the worker dies, at the earliest.
    """
    for attempt in range(10):
        spec, told = spec_in(f"killed-{attempt}"), list[Progress]()
        with one_worker_killed(spec, step):
            report = run(spec, progress=told.append)
        said = [progress.message for progress in told]
        if sum(message.startswith("reading") for message in said) == 2:
            return spec, report, [int(message.split()[1]) for message in said if message.startswith("step ")]
        # This process was asleep when the training was at its steps: once more, elsewhere.
    raise AssertionError("in ten jobs no worker was replaced by a new one")
