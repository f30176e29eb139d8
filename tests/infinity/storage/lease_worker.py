"""A process that wants to own a folder and commit in it, keeping to what jobs keep to.

It takes a lease, writes numbered states, deletes older ones, commits a report that must be absent, gives the folder
back. It says what it does, a JSON line each.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from dataclasses import dataclass

from infinity import storage
from infinity.storage import FileAlreadyThereError, LeaseLostError
from infinity.storage.fences import fenced
from infinity.storage.lease import Lease, acquire

REPORT, STATES = "report.json", "states"
KEPT = 2
"""How many of the newest states stay."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker does.

    Attributes:
        folder: URI.
        log: File that its lines are appended to.
        seed: Of its pauses and the jumps of its clock.
        num_steps: States until the report.
        step_s: Longest pause between two.
        silence_s: Of its lease.
    """

    folder: str
    log: str
    seed: int
    num_steps: int = 12
    step_s: float = 0.1
    silence_s: float = 1.0

    @property
    def report(self) -> str:
        """URI of what is written last, and once."""
        return storage.join(self.folder, REPORT)

    def run(self) -> None:
        """Work to the end, or until another one owns the folder."""
        draw = random.Random(self.seed)
        shift_clock(draw.choice([0.0, 3600.0, -3600.0]))
        lease = acquire(self.folder, silence_s=self.silence_s)
        self.say("owns", lease.fence.token)
        try:
            with fenced(lease.fence):
                self._work(lease, draw)
        except LeaseLostError as error:
            self.say("fenced", lease.fence.token, str(error))
        finally:
            lease.stop()
            lease.release(finished=storage.exists(self.report))

    def _work(self, lease: Lease, draw: random.Random) -> None:
        token = lease.fence.token
        if storage.exists(self.report):
            self.say("read", token)
            return
        stored = storage.list_files(storage.join(self.folder, STATES))
        begin = max((int(storage.name(uri)) for uri in stored), default=-1) + 1
        for step in range(begin, self.num_steps):
            time.sleep(draw.uniform(0, self.step_s))
            if draw.random() < 0.1:
                shift_clock(draw.choice([-3600.0, 3600.0]))
            lease.note(f"step {step} of {self.num_steps}")
            storage.write_text(self.state(step), str(token))
            self.say("stored", token, step)
            for old in range(max(0, step - KEPT - 1), step - KEPT + 1):
                storage.delete_tree(self.state(old))
        try:
            storage.write_text(self.report, str(token), if_absent=True)
            self.say("committed", token)
        except FileAlreadyThereError:
            self.say("late", token)

    def state(self, step: int) -> str:
        """URI of a state."""
        return storage.join(self.folder, STATES, f"{step:06d}")

    def say(self, *words: object) -> None:
        """Append a line of what happened, in one write, with the time of the one clock of the machine."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, (json.dumps([time.monotonic(), os.getpid(), *words]) + "\n").encode())
        os.close(descriptor)


def new_log() -> str:
    """A new file for what processes say."""
    descriptor, log = tempfile.mkstemp(prefix="lease-", suffix=".log")
    os.close(descriptor)
    return log


def shift_clock(seconds: float) -> None:
    """Move the wall clock of this process, as a wrong clock is, or one that is set right."""
    real = time.time
    time.time = lambda: real() + seconds
