"""Two processes and more want one folder, and get signals at random moments; the laws of a lease are checked.

``python -m tests.infinity.storage.lease_schedules <folder or s3://...> <first seed> <last seed>`` runs schedules with
real processes and SIGSTOP, SIGCONT and SIGKILL; clocks jump by hours. It ends with code 1 at the first broken law.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from infinity import storage
from infinity.storage.lease import parsed
from infinity.storage.lease_file import lease_file
from infinity.storage.places import local_path
from tests.fixtures.limits import AGES_S
from tests.infinity.storage.lease_worker import KEPT, STATES, Task, new_log

AT_ONCE = 4
"""Schedules that run side by side; their processes sleep most of the time."""


class Schedule:
    """One folder, its processes and what happened to them.

    Args:
        task: What the processes do; each gets another seed.
        quick: Longest pause between two disturbances, as a share of the silence after which others take over.
    """

    def __init__(self, task: Task, quick: float = 0.3) -> None:
        seed = task.seed
        self._draw, self._task, self._quick = random.Random(seed), task, quick
        self._living: set[int] = set()
        self._stopped: dict[int, float] = {}
        self.killed: list[tuple[float, int]] = []
        self.seed = seed

    def run(self) -> dict[str, float]:
        """Start two at once, disturb them, and see to it that the work is finished; figures of this schedule."""
        self._start()
        time.sleep(self._draw.uniform(0, 0.2))
        self._start()
        for _ in range(40):
            self._pause(self._draw.uniform(0, self._quick * self._task.silence_s))
            if not self._living:
                break
            self._disturb()
        while True:
            for number in list(self._stopped):
                self._signal(number, signal.SIGCONT)
            self._until(lambda: not self._living)
            if storage.exists(self._task.report):
                break
            self._start()
        return self.figures()

    def _disturb(self) -> None:
        kind = self._draw.random()
        owners = [line[1] for line in self.lines() if line[2] == "owns" and line[1] in self._living]
        number = owners[-1] if owners and self._draw.random() < 0.7 else self._draw.choice(sorted(self._living))
        if kind < 0.7:
            self._signal(number, signal.SIGSTOP)
            self._stopped[number] = time.monotonic() + self._draw.choice([0.1, 1.5, 3.0]) * self._task.silence_s
        elif kind < 0.82:
            self.killed.append((time.monotonic(), number))
            self._signal(number, signal.SIGKILL)
        elif len(self._living) < 3:
            self._start()

    def _start(self) -> None:
        task = replace(self._task, seed=self._draw.randrange(2**31))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                task.run()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        self._living.add(child)

    def _signal(self, number: int, which: signal.Signals) -> None:
        os.kill(number, which)
        if which != signal.SIGSTOP:
            self._stopped.pop(number, None)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._until(lambda: time.monotonic() >= end)

    def _until(self, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + AGES_S
        while not is_over():
            self._look()
            if time.monotonic() > deadline:
                for number in self._living:
                    os.kill(number, signal.SIGKILL)
                raise AssertionError(f"seed {self.seed}: a process did not end")
            time.sleep(0.005)

    def _look(self) -> None:
        for number, until in list(self._stopped.items()):
            if time.monotonic() >= until:
                self._signal(number, signal.SIGCONT)
        for number in list(self._living):
            ended, status = os.waitpid(number, os.WNOHANG)
            if ended:
                self._living.discard(number)
                self._stopped.pop(number, None)
                assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), f"seed {self.seed}: {number} failed"

    def lines(self) -> list[list[Any]]:
        """What the workers said, in the order in which it was written."""
        return [json.loads(line) for line in Path(self._task.log).read_text().splitlines()]

    def figures(self) -> dict[str, float]:
        """Check the laws; how long a take-over after a kill took at most, and how often owners were fenced."""
        lines, folder, where = self.lines(), self._task.folder, f"seed {self.seed}, {self._task.log}"
        owns = [line for line in lines if line[2] == "owns"]
        # Whoever came after the end found the report, and a folder without a lease.
        readers = {line[1] for line in lines if line[2] == "read"}
        # Who is stopped before it says that it owns may say so after the one who took over.
        tokens = sorted(line[3] for line in owns if line[1] not in readers)
        assert len(tokens) == len(set(tokens)), f"{where}: a token was given twice: {tokens}"
        committers = [line[3] for line in lines if line[2] == "committed"]
        assert len(committers) <= 1, f"{where}: {committers} have all committed"
        report = int(storage.read_text(self._task.report))
        assert not committers or committers == [report], f"{where}: the report is not the committer's"
        assert not [line for line in lines if line[2] == "late"], f"{where}: an owner found another one's report"
        done = -1
        for token in tokens:
            steps = [line[4] for line in lines if line[2:4] == ["stored", token]]
            assert not steps or steps[0] > done, f"{where}: token {token} did steps again that were stored"
            done = max([done, *steps])
        names = [storage.name(uri) for uri in storage.list_files(storage.join(folder, STATES))]
        last = self._task.num_steps - 1
        assert f"{last:06d}" in names, f"{where}: the last state is lost, there are {names}"
        assert KEPT <= len(names) <= KEPT + 1 + len(self.killed) + len(tokens), f"{where}: {names}"
        held = [int(storage.read_text(storage.join(folder, STATES, name))) for name in names]
        assert held == sorted(held), f"{where}: a fenced owner wrote, tokens of states {held}"
        left = lease_file(folder, local_path(folder)).read()
        killed = {number for _, number in self.killed}
        owner = None if left is None else parsed(left).owner
        assert left is None or (owner is not None and owner.number in killed), f"{where}: the lease is still there"
        waits = [min((later[0] for later in owns if later[0] > at), default=at) - at for at, _ in self.killed]
        Path(self._task.log).unlink()
        fenced = sum(line[2] == "fenced" for line in lines)
        return {"killed": len(self.killed), "fenced": fenced, "owners": len(tokens), "wait_s": max(waits, default=0.0)}


def main() -> None:
    """Run the schedules of some seeds, several side by side; print their figures."""
    root, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    output = Path(tempfile.mkdtemp(prefix="lease-"))
    waiting, running, failed = list(range(first, last + 1)), set[int](), False
    while waiting or running:
        while waiting and len(running) < AT_ONCE and not failed:
            seed = waiting.pop(0)
            if (child := os.fork()) == 0:
                code = 1
                with contextlib.suppress(BrokenPipeError):
                    try:
                        found = Schedule(Task(folder=storage.join(root, f"{seed:04d}"), log=new_log(), seed=seed)).run()
                        (output / str(seed)).write_text(json.dumps(found))
                        code = 0
                    except Exception as error:
                        sys.stderr.write(f"{type(error).__name__}: {error}\n")
                    finally:
                        sys.stderr.flush()
                        os._exit(code)
            running.add(child)
        if not running:
            break
        ended, status = os.wait()
        running.discard(ended)
        failed = failed or status != 0
    found = [json.loads(path.read_text()) for path in output.iterdir()]
    total = {name: sum(each[name] for each in found) for name in ("killed", "fenced", "owners")}
    longest = max((each["wait_s"] for each in found), default=0.0)
    sys.stdout.write(
        f"{len(found)} schedules, {total['owners']} owners, {total['killed']} killed, {total['fenced']} fenced, "
        f"at most one committer each; longest take-over after a kill {longest:.2f} s\n"
    )
    sys.exit(1 if failed or len(found) != last - first + 1 else 0)


if __name__ == "__main__":
    main()
