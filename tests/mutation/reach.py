"""Which functions each test calls, and what it costs."""

from __future__ import annotations

import cProfile
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.running import ROOT, Told, fork


class _Reach(Told):
    """Tells too which functions of the library each test calls; a fixture of several tests counts for all of them.

    The profiler of the standard library notes the calls of the test's own thread, at a small part of the cost of a
    trace function, which is left to the other threads.
    """

    def __init__(self, pipe: int) -> None:
        super().__init__(pipe, None)
        self.profile = cProfile.Profile(subcalls=False, builtins=False)
        self.codes: set[Any] = set()
        self.fixtures: dict[str, set[Any]] = {}
        self.fixture_s: dict[str, float] = {}
        self.paid: dict[str, float] = {}

    def _trace(self, frame: Any, event: str, argument: object) -> None:
        self.codes.add(frame.f_code)

    def _taken(self) -> set[Any]:
        """What was called since the last time."""
        taken = self.codes | {entry.code for entry in self.profile.getstats()}
        self.codes = set()
        self.profile.clear()
        return taken

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before, began = self._taken(), time.process_time()
        try:
            return (yield)
        finally:
            taken = self._taken()
            if fixturedef.scope != "function":
                self.fixture_s[fixturedef.argname] = self.paid[fixturedef.argname] = time.process_time() - began
                self.fixtures.setdefault(fixturedef.argname, set()).update(taken)
            self.codes |= before | taken

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self._taken()
        began = time.process_time()
        threading.settrace(self._trace)  # type: ignore[arg-type]
        self.profile.enable()
        try:
            return (yield)
        finally:
            self.profile.disable()
            threading.settrace(None)  # type: ignore[arg-type]
            names = getattr(item, "fixturenames", ())
            calls = _names(self._taken().union(*(self.fixtures.get(name, set()) for name in names)))
            shared_s = sum(self.fixture_s.get(name, 0.0) for name in names)
            paid_s = sum(self.paid.pop(name, 0.0) for name in names)  # by this test, but for others too
            self.tell("reached", item.nodeid, time.process_time() - began - paid_s, shared_s, calls)


def _names(codes: set[Any]) -> list[str]:
    own = f"{ROOT}/infinity/"
    named = (code for code in codes if not isinstance(code, str))  # functions written in C have a text only
    names = ((code.co_filename, code.co_qualname.partition(".<locals>")[0]) for code in named)
    return sorted({f"{file.removeprefix(f'{ROOT}/')}::{name}" for file, name in names if file.startswith(own)})


@dataclass(frozen=True, slots=True)
class Reach:
    """What a test costs and what it runs.

    Attributes:
        own_s: Processor seconds of the test alone.
        shared_s: Of fixtures that it shares with other tests of its file.
        calls: Functions of the library, as ``path::qualified.name``.
    """

    own_s: float
    shared_s: float
    calls: frozenset[str]


class Cache:
    """Reach of tests, found file by file when it is asked for, and kept for the next run.

    Args:
        file: JSON file that keeps it.
        say: Is told a line per test file that was run.
    """

    def __init__(self, file: Path, say: Callable[[str], None]) -> None:
        self._file, self._say = file, say
        self._known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        # A file of the library that is new or renamed changes what tests can reach; what is in the files does not.
        self._library = "\n".join(
            path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "infinity").rglob("*.py"))
        )

    def of(self, files: Sequence[Path]) -> dict[str, Reach]:
        """Return the reach of every passing test of some files; files that have not changed are not run again."""
        found: dict[str, Reach] = {}
        for path in files:
            name = path.relative_to(ROOT).as_posix()
            digest = hashlib.sha256(path.read_bytes() + self._library.encode()).hexdigest()
            if self._known.get(name, {}).get("digest") != digest:
                self._run(name, digest)
            tests = self._known[name]["tests"]
            found |= {test: Reach(own, shared, frozenset(calls)) for test, (own, shared, calls) in tests.items()}
        return found

    def _run(self, name: str, digest: str) -> None:
        run = fork([name], _Reach, silence_s=1200.0)
        bad = sorted({str(line[1]) for line in run.told if line[0] == "failed"})
        tests = {line[1]: line[2:] for line in run.told if line[0] == "reached" and line[1] not in bad}
        self._known[name] = {"digest": digest, "tests": tests, "failed": bad, "timed_out": run.timed_out}
        self._file.write_text(json.dumps(self._known))
        self._say(f"{name}: {len(tests)} tests in {run.seconds:.0f} s" + (f", failing: {bad}" if bad else ""))
