"""A driver whose local Ray loses a process while it waits: ``python -m tests.infinity.jobs.lost_cluster <process>``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from infinity.jobs.cluster.connection import connect
from infinity.jobs.progress import relayed, silent
from infinity.jobs.training.stopping import stopping_on_signal
from infinity.jobs.watching import ClusterLostError
from tests.fixtures.killing import living


def _sleep() -> None:
    time.sleep(3600.0)


def _add(number: int) -> int:
    return number + 1


def main() -> None:
    """Wait for a task, lose the cluster, and use a new one."""
    began = [0.0]

    def kill() -> None:
        time.sleep(1.0)
        for process in living():
            if process.parent == os.getpid() and process.name == sys.argv[1]:
                os.kill(process.number, signal.SIGKILL)
        began[0] = time.monotonic()

    try:
        with connect(num_cpus=1):
            import ray

            with relayed(silent), stopping_on_signal():
                threading.Thread(target=kill, daemon=True).start()
                ray.get(ray.remote(_sleep).remote())
    except ClusterLostError as error:
        _say(f"after {time.monotonic() - began[0]:.1f} s: {error}")
    with connect(num_cpus=1):
        _say(f"a new cluster adds: {ray.get(ray.remote(_add).remote(1))}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
