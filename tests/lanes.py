"""The test suite in several processes at once: ``python -m tests.lanes [--lanes N] [options of pytest]``.

Every process collects all tests and takes file by file from a shared list, so that none waits for another one's slow
file. The tests of ``tests/flows`` and all others that need a Prefect server go together: they share one server and one
run on it. Each process has its own Ray, servers and folders, as two people on one machine have. Files with heavy tests
come first. They often wait, for a cluster, a server or a browser, so a third process takes the other files meanwhile.

Up to three tests that failed are run once more, alone. A test that then passes is *unsteady*: it is named at the end,
and the run counts as passed. A test that fails twice is a failure, and so are more than three that fail. ``--once``
turns the second run off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CLAIMS = "INFINITY_TEST_CLAIMS"
"""Names the folder in which a process claims a file by creating a mark."""

TOGETHER, SERVER = "tests/flows/", "prefect_stack"
"""Folder whose tests share one run, and the fixture of the Prefect server on which it is; one process starts both."""

HEAVY = ("ray", "prefect", "browser", "slow")
"""Marks of tests that start other processes or take long."""

LIGHT_LANE = "INFINITY_TEST_LIGHT_LANE"
"""Set for a process that leaves heavy files to the others: at most two clusters run at a time."""

DEFAULT_LANES, HEAVY_LANES = 3, 2
MOST_SECOND_TRIES = 3

FAILED = "failed"
"""File in the folder of the claims: each line the id of a test that failed, written by every lane."""

CHOSEN = "chosen"
"""File in the folder of the claims: the ids of the only tests to run; absent for all."""


def units_of(items: list[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """Return the tests that one process takes as a whole: those of a file, or all that need the Prefect server."""
    files = [item.nodeid.partition("::")[0] for item in items]
    with_server = {file for file, item in zip(files, items, strict=True) if SERVER in getattr(item, "fixturenames", ())}
    units: dict[str, list[pytest.Item]] = {}
    for file, item in zip(files, items, strict=True):
        together = file in with_server or file.startswith(TOGETHER)
        units.setdefault(TOGETHER if together else file, []).append(item)
    return units


def is_heavy(tests: list[pytest.Item]) -> bool:
    """Return whether one of a unit's tests is heavy."""
    return any(item.get_closest_marker(mark) is not None for item in tests for mark in HEAVY)


def claimed(items: list[pytest.Item], folder: Path, *, light: bool = False) -> Iterator[pytest.Item]:
    """Yield the tests of the units that this process claims before any other one does.

    Args:
        items: Tests of all processes.
        folder: Folder of the claims.
        light: Whether to leave units with heavy tests to others.
    """
    units = units_of(items)
    heavy = {unit for unit, tests in units.items() if unit == TOGETHER or is_heavy(tests)}
    for unit in sorted(units, key=lambda unit: (unit != TOGETHER, unit not in heavy)):
        if light and unit in heavy:
            continue
        try:
            (folder / unit.replace("/", "-")).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield from units[unit]


class Lane:
    """Plug-in that runs only what this process claims; everything else of pytest stays as it is.

    Args:
        folder: Folder of the claims.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._light = os.environ.pop(LIGHT_LANE, None) is not None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the chosen tests of a second run."""
        if (chosen := self._folder / CHOSEN).exists():
            ids = chosen.read_text().splitlines()
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in ids])
            items[:] = [item for item in items if item.nodeid in ids]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down which test failed, in its set-up, its call or its tear-down."""
        if report.failed:
            with (self._folder / FAILED).open("a") as file:
                file.write(f"{report.nodeid}\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the claimed tests; a file is claimed just before the last test of the one before it."""
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            raise session.Interrupted("errors during collection")
        if session.config.option.collectonly:
            return True
        tests = claimed(session.items, self._folder, light=self._light)
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
    """Run the lanes, and what failed once more."""
    lanes, once = DEFAULT_LANES, "--once" in arguments
    arguments = [argument for argument in arguments if argument != "--once"]
    if arguments[:1] == ["--lanes"]:
        lanes, arguments = int(arguments[1]), arguments[2:]
    code, failed = run(arguments, lanes=lanes)
    if once or code != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= MOST_SECOND_TRIES:
        return code
    print(f"\n{len(failed)} failed; once more, alone: {', '.join(failed)}", flush=True)
    code, again = run(arguments, lanes=1, only=failed)
    for test in failed:
        print(
            f"{'FAILED TWICE' if test in again else 'UNSTEADY: failed beside others, passed alone'}: {test}", flush=True
        )
    return code


def run(arguments: list[str], *, lanes: int, only: list[str] | None = None) -> tuple[int, list[str]]:
    """Return pytest's exit code of all lanes together, and the ids of the tests that failed.

    The output of the first lane is seen as it comes, that of the others when they have ended.

    Args:
        arguments: Options of pytest.
        lanes: Number of processes.
        only: Ids of the tests to run; all by default.
    """
    with tempfile.TemporaryDirectory(prefix="lanes-") as folder:
        claims = Path(folder) / "claims"
        claims.mkdir()
        if only is not None:
            (claims / CHOSEN).write_text("\n".join(only))
        command, environment = [sys.executable, "-m", "pytest", *arguments], {**os.environ, CLAIMS: str(claims)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # thousands of processes would compile the same files
        others = []
        for number in range(1, lanes):
            kind = {LIGHT_LANE: "1"} if number >= HEAVY_LANES else {}
            with (Path(folder) / f"{number}.log").open("wb") as log:
                lane = subprocess.Popen(command, env=environment | kind, stdout=log, stderr=subprocess.STDOUT)
                others.append((log.name, lane))
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
        failed = claims / FAILED
        return verdict(codes), list(dict.fromkeys(failed.read_text().splitlines())) if failed.exists() else []


def verdict(codes: list[int]) -> int:
    """Return pytest's exit code of all together: a lane that found nothing left to do is no failure if another ran."""
    nothing = int(pytest.ExitCode.NO_TESTS_COLLECTED)
    ran = [code for code in codes if code != nothing]
    return max(ran, key=abs, default=nothing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
