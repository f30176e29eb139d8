"""The test suite in several processes at once: ``python -m tests.lanes [--lanes N] [options of pytest]``.

Every process takes file by file from a shared list, so that none waits for another one's slow file, and imports only
the files that it takes. The tests of ``tests/flows`` and all others that need a Prefect server go together: they share
one server and one run on it. Each process has its own Ray, servers and folders, as two people on one machine have.
Files with heavy tests come first. They often wait, for a cluster, a server or a browser, so a third process takes the
other files meanwhile.

Of a test with many cases a sample runs: at most ``MOST_CASES``, evenly from the first to the last. All run with
``--exhaustive``, where pytest itself is called with some files, of tests that ask for the fixture ``exhaustive``, which
sample by themselves, and of tests with the mark ``every_case``, whose cases are things of this repository, such as its
documents.

Up to three tests that failed are run once more, alone. A test that then passes is *unsteady*: it is named at the end,
and the run counts as passed. A test that fails twice is a failure, and so are more than three that fail. ``--once``
turns the second run off.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CLAIMS = "INFINITY_TEST_CLAIMS"
"""Names the folder in which a process claims a file by creating a mark."""

TOGETHER = "tests/flows/"
"""Folder whose tests share one run; who else needs the Prefect server goes with them, so that one process starts it."""

SERVER = re.compile(r"\bprefect_(stack|server):")
"""How a file's tests ask for the Prefect server."""

HEAVY = re.compile(r"\bmark\.(ray|prefect|browser|slow)\b")
"""Marks of tests that start other processes or take long."""

LIGHT_LANE = "INFINITY_TEST_LIGHT_LANE"
"""Set for a process that leaves heavy files to the others: at most two clusters run at a time."""

DEFAULT_LANES, HEAVY_LANES = 3, 2
MOST_SECOND_TRIES = 3
MOST_CASES = 3

FAILED = "failed"
"""File in the folder of the claims: each line the id of a test that failed, written by every lane."""

CHOSEN = "chosen"
"""File in the folder of the claims: the ids of the only tests to run; absent for all."""


def files_of(arguments: list[str], root: Path) -> dict[str, list[str]]:
    """Return the files of tests that arguments of pytest name, and the arguments that lead into each.

    Args:
        arguments: Folders, files and ids, relative to ``root``.
        root: Folder that pytest was started in.
    """
    files: dict[str, list[str]] = {}
    for argument in arguments:
        name, colons, _ = argument.partition("::")
        found = sorted((root / name).rglob("test_*.py")) if (root / name).is_dir() else [root / name]
        for path in found:
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
            files.setdefault(name, []).append(argument if colons else name)
    return files


def units_of(texts: dict[str, str]) -> dict[str, list[str]]:
    """Return the files that one process takes as a whole, heavy ones first: one, or all that need the Prefect server.

    Args:
        texts: Text of every file.
    """
    units: dict[str, list[str]] = {}
    for file, text in sorted(texts.items(), key=lambda each: not HEAVY.search(each[1])):
        together = file.startswith(TOGETHER) or SERVER.search(text)
        units.setdefault(TOGETHER if together else file, []).append(file)
    return dict(sorted(units.items(), key=lambda unit: unit[0] != TOGETHER))


def claimed(texts: dict[str, str], folder: Path, *, light: bool = False) -> Iterator[list[str]]:
    """Yield the files of the units that this process claims before any other one does.

    Args:
        texts: Text of every file.
        folder: Folder of the claims.
        light: Whether to leave units with heavy tests to others.
    """
    for unit, files in units_of(texts).items():
        if light and (unit == TOGETHER or any(HEAVY.search(texts[file]) for file in files)):
            continue
        try:
            (folder / unit.replace("/", "-")).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield files


def sample_of(ids: list[str]) -> set[str]:
    """Return at most ``MOST_CASES`` ids of each function among ids of tests, evenly from its first to its last."""
    functions: dict[str, list[str]] = {}
    for name in ids:
        functions.setdefault(name.partition("[")[0], []).append(name)
    steps = MOST_CASES - 1
    return {
        cases[(len(cases) - 1) * step // steps] if len(cases) > MOST_CASES else name
        for cases in functions.values()
        for step, name in enumerate(cases[:MOST_CASES])
    }


def runs_every_case(item: pytest.Item) -> bool:
    """Return whether a test has no sample: its cases are things of this repository, or it samples by itself."""
    return item.get_closest_marker("every_case") is not None or "exhaustive" in getattr(item, "fixturenames", ())


class Lane:
    """Plug-in that collects and runs only what this process claims; everything else of pytest stays as it is.

    Args:
        folder: Folder of the claims.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._light = os.environ.pop(LIGHT_LANE, None) is not None
        self._collects = False

    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Leave collecting to the time when a file is claimed."""
        return None if self._collects or session.config.option.collectonly else True

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the chosen tests of a second run, or a sample of the cases of each test."""
        if (chosen := self._folder / CHOSEN).exists():
            kept = set(chosen.read_text().splitlines())
        elif config.getoption("exhaustive", default=False):
            return
        else:
            kept = {item.nodeid for item in items if runs_every_case(item)} | sample_of([item.nodeid for item in items])
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
        items[:] = [item for item in items if item.nodeid in kept]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down which test failed, in its set-up, its call or its tear-down."""
        if report.failed:
            with (self._folder / FAILED).open("a") as file:
                file.write(f"{report.nodeid}\n")

    def _tests(self, session: pytest.Session) -> Iterator[pytest.Item]:
        """Yield the tests of the files that this process claims, each file imported when it is claimed."""
        config = session.config
        files = files_of(config.args, config.invocation_params.dir)
        if (chosen := self._folder / CHOSEN).exists():
            names = {Path(each.partition("::")[0]).name for each in chosen.read_text().splitlines()}
            files = {file: given for file, given in files.items() if Path(file).name in names}
        texts = {file: (config.invocation_params.dir / file).read_text(encoding="utf-8") for file in files}
        given, self._collects, collected = config.args, True, 0
        for unit in claimed(texts, self._folder, light=self._light):
            verbose, failures = config.option.verbose, session.testsfailed
            config.args, config.option.verbose = [each for file in unit for each in files[file]], -1  # no line a file
            try:
                config.hook.pytest_collection(session=session)
            finally:
                config.args, config.option.verbose = given, verbose
            if session.testsfailed > failures and not config.option.continue_on_collection_errors:
                raise session.Interrupted("errors during collection")
            collected += len(session.items)
            session.testscollected = collected
            yield from session.items

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the claimed tests; a file is claimed just before the last test of the one before it."""
        if session.config.option.collectonly:
            return True
        tests = self._tests(session)
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
        style = "console_output_style=classic"  # how much is left, no process knows
        command = [sys.executable, "-m", "pytest", "-o", style, *arguments]
        environment = {**os.environ, CLAIMS: str(claims)}
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
