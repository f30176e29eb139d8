"""Several processes on this machine that train as one team, for tests."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from infinity.training.distributed.parallel import ProcessGroup
from tests.fixtures.limits import AGES_S


def exit_codes(
    size: int,
    work: Callable[[ProcessGroup], None],
    meeting: Path,
    *,
    patience_s: float = AGES_S,
    answer_s: float = AGES_S,
) -> list[int | None]:
    """Exit codes of forks that work together: 0 is well, 1 an error that lies beside ``meeting``, None too late.

    Args:
        size: Processes.
        work: What each of them does, as a member of the team.
        meeting: A file that is not there yet, where they find each other.
        patience_s: Longest wait of the caller for all.
        answer_s: Longest wait of one of them for another.
    """

    def run(rank: int) -> None:
        code = 1
        try:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
            torch.set_num_threads(1)
            limit = timedelta(seconds=answer_s)
            dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=limit)
            work(ProcessGroup.current())
            dist.barrier()
            code = 0
        except BaseException as error:  # told to the test, whatever it is
            error_of(meeting, rank).write_text(repr(error))
        finally:
            os._exit(code)

    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run, args=(rank,)) for rank in range(size)]
    for process in ranks:
        process.start()
    until = time.monotonic() + patience_s
    for process in ranks:
        process.join(max(0.0, until - time.monotonic()))
    late = [process for process in ranks if process.exitcode is None]
    for process in late:
        process.kill()
    return [None if process in late else process.exitcode for process in ranks]


def error_of(meeting: Path, rank: int) -> Path:
    """Where the error of a member is told."""
    return meeting.with_name(f"{meeting.name}-error-{rank}")
