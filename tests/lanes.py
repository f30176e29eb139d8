"""The test suite in several processes at once: ``python -m tests.lanes [--lanes N] [options of pytest]``.

Every process collects all tests and takes file by file from a shared list, so that none waits for another one's slow
file. The tests of ``tests/flows`` go together, since they share one run on one Prefect server. Each process has its own
Ray, servers and folders, as two people on one machine have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

CLAIMS = "INFINITY_TEST_CLAIMS"
"""Names the folder in which a process claims a file by creating a mark."""

TOGETHER = "tests/flows/"
DEFAULT_LANES = 2


def unit_of(item: pytest.Item) -> str:
    """Return the name of what one process takes as a whole: the file of a test, or the folder that goes together."""
    file = item.nodeid.partition("::")[0]
    return TOGETHER if file.startswith(TOGETHER) else file


def claimed(items: list[pytest.Item], folder: Path) -> Iterator[pytest.Item]:
    """Yield the tests of the units that this process claims before any other one does."""
    for unit, tests in groupby(items, key=unit_of):
        try:
            (folder / unit.replace("/", "-")).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield from tests


class Lane:
    """Plug-in that runs only what this process claims; everything else of pytest stays as it is.

    Args:
        folder: Folder of the claims.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the claimed tests; a file is claimed just before the last test of the one before it."""
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            raise session.Interrupted("errors during collection")
        if session.config.option.collectonly:
            return True
        tests = claimed(session.items, self._folder)
        item = next(tests, None)
        while item is not None:
            following = next(tests, None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            item = following
        return True


def main(arguments: list[str]) -> int:
    """Run the lanes; the output of the first is seen as it comes, that of the others when they have ended."""
    lanes = DEFAULT_LANES
    if arguments[:1] == ["--lanes"]:
        lanes, arguments = int(arguments[1]), arguments[2:]
    if lanes == 1:
        return subprocess.call([sys.executable, "-m", "pytest", *arguments])
    with tempfile.TemporaryDirectory(prefix="lanes-") as folder:
        claims = Path(folder) / "claims"
        claims.mkdir()
        command, environment = [sys.executable, "-m", "pytest", *arguments], {**os.environ, CLAIMS: str(claims)}
        others = []
        for number in range(1, lanes):
            with (Path(folder) / f"{number}.log").open("wb") as log:
                others.append(
                    (log.name, subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
                )
        try:
            codes = [subprocess.call(command, env=environment)]
            for log_name, process in others:
                codes.append(process.wait())
                sys.stdout.buffer.write(Path(log_name).read_bytes())
                sys.stdout.flush()
        finally:
            for _, process in others:
                process.terminate()  # where this one was interrupted; one that has ended stays as it is
                process.wait()
    return verdict(codes)


def verdict(codes: list[int]) -> int:
    """Return pytest's exit code of all together: a lane that found nothing left to do is no failure if another ran."""
    nothing = int(pytest.ExitCode.NO_TESTS_COLLECTED)
    ran = [code for code in codes if code != nothing]
    return max(ran, key=abs, default=nothing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
