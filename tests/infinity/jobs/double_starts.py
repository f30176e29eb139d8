"""The same job started twice, in real processes that get signals at random moments; every kind that needs no Ray.

``python -m tests.infinity.jobs.double_starts <spec.json> <folder> <first seed> <last seed>``
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import Config
from infinity.jobs import ownership
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.progress import Progress
from infinity.jobs.registry import load_spec, run_spec
from infinity.jobs.spec import REPORT_FILE, JobSpec
from infinity.storage import LeaseLostError
from infinity.storage.lease import Lease
from tests.infinity.storage.lease_schedules import Schedule
from tests.infinity.storage.lease_worker import Task, new_log, shift_clock

SILENCE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class JobTask(Task):
    """A job in this process, which says when it owns the folder, commits, or has a report."""

    spec: JobSpec

    @property
    def report(self) -> str:
        return storage.join(self.spec.folder, REPORT_FILE)

    def run(self) -> None:
        os.environ["INFINITY_LEASE_SILENCE_S"] = str(self.silence_s)
        draw = random.Random(self.seed)
        shift_clock(draw.choice([0.0, 3600.0, -3600.0]))
        self._listen()

        def progress(_: Progress) -> None:
            time.sleep(draw.uniform(0, self.step_s))
            if draw.random() < 0.1:
                shift_clock(draw.choice([-3600.0, 3600.0]))

        try:
            with in_process():
                self.say("has", report_digest(run_spec(self.spec, progress=progress)))
        except LeaseLostError as error:
            self.say("fenced", str(error))
        except storage.FileAlreadyThereError:
            self.say("late")

    def _listen(self) -> None:
        acquire, put = ownership.acquire, storage.put_once

        def heard_acquire(folder: str, **options: Any) -> Lease:
            lease = acquire(folder, **options)
            if storage.name(folder) == storage.name(self.spec.folder):
                self.say("owns", lease.fence.token)
            return lease

        def heard_put(uri: str, data: bytes) -> bool:
            was_absent = put(uri, data)
            if uri.endswith(f"{storage.name(self.spec.folder)}/{REPORT_FILE}") and was_absent:
                self.say("committed")
            return was_absent

        ownership.acquire, storage.put_once = heard_acquire, heard_put


def report_digest(report: Config) -> str:
    return report.digest()


class JobSchedule(Schedule):
    """Starts of one job, and the laws."""

    _task: JobTask

    def figures(self) -> dict[str, float]:
        """Check the laws; how often processes were killed and fenced."""
        lines, where = self.lines(), f"{self._task.spec.kind}, seed {self.seed}, {self._task.log}"
        committed = [line for line in lines if line[2] == "committed"]
        assert len(committed) <= 1, f"{where}: two have committed"
        assert not [line for line in lines if line[2] == "late"], f"{where}: an owner found another one's report"
        # A job is done once: whoever has a report has the same one, seconds and all.
        reports = {line[3] for line in lines if line[2] == "has"}
        assert len(reports) <= 1, f"{where}: {len(reports)} reports"
        assert committed or self.killed, f"{where}: nobody has committed"
        return {"killed": len(self.killed), "fenced": sum(line[2] == "fenced" for line in lines)}


def main() -> None:
    """Run schedules one after the other; print what they came to."""
    spec, root, first, last = load_spec(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    import infinity.jobs.training.transformer  # noqa: F401 - heavy, and needed by every child

    killed = fenced = 0.0
    for seed in range(first, last + 1):
        output = storage.join(root, f"{seed:04d}")
        here = spec.replace(output=output)
        task = JobTask(folder=here.folder, log=new_log(), seed=seed, step_s=0.2, silence_s=SILENCE_S, spec=here)
        found = JobSchedule(task, quick=0.1).run()
        killed, fenced = killed + found["killed"], fenced + found["fenced"]
        os.unlink(task.log)
        storage.delete_tree(output)
    sys.stdout.write(f"{last + 1 - first} double starts of {spec.kind}: {killed:.0f} killed, {fenced:.0f} fenced\n")


if __name__ == "__main__":
    main()
