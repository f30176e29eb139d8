"""Which functions each test calls, and what it costs."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.running import ROOT, Told, fork


class _Reach(Told):
    """Tells too which functions of the library each test calls; a fixture of several tests counts for all of them."""

    def __init__(self, pipe: int) -> None:
        super().__init__(pipe, None)
        self.codes: set[Any] = set()
        self.fixtures: dict[str, set[Any]] = {}
        self.fixture_s: dict[str, float] = {}
        self.paid: dict[str, float] = {}

    def _trace(self, frame: Any, event: str, argument: object) -> None:
        self.codes.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before, self.codes, began = self.codes, set(), time.process_time()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.fixture_s[fixturedef.argname] = self.paid[fixturedef.argname] = time.process_time() - began
                self.fixtures.setdefault(fixturedef.argname, set()).update(self.codes)
            self.codes |= before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self.codes, began = set(), time.process_time()
        threading.settrace(self._trace)  # type: ignore[arg-type]
        sys.settrace(self._trace)  # type: ignore[arg-type]
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            names = getattr(item, "fixturenames", ())
            calls = _names(self.codes.union(*(self.fixtures.get(name, set()) for name in names)))
            shared_s = sum(self.fixture_s.get(name, 0.0) for name in names)
            paid_s = sum(self.paid.pop(name, 0.0) for name in names)  # by this test, but for others too
            self.tell("reached", item.nodeid, time.process_time() - began - paid_s, shared_s, calls)


def _names(codes: set[Any]) -> list[str]:
    own = f"{ROOT}/infinity/"
    names = ((code.co_filename, code.co_qualname.partition(".<locals>")[0]) for code in codes)
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


def reach(files: Sequence[Path], cache: Path, say: Callable[[str], None]) -> dict[str, Reach]:
    """Reach of every test; test files that have not changed are not run again."""
    names = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "infinity").rglob("*.py"))]
    known: dict[str, Any] = json.loads(cache.read_text()) if cache.exists() else {}
    found: dict[str, Reach] = {}
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        digest = hashlib.sha256(path.read_bytes() + "\n".join(names).encode()).hexdigest()
        if known.get(name, {}).get("digest") != digest:
            run = fork([name], _Reach, silence_s=1200.0)
            bad = {str(line[1]) for line in run.told if line[0] == "failed"}
            tests = {line[1]: line[2:] for line in run.told if line[0] == "reached" and line[1] not in bad}
            known[name] = {"digest": digest, "tests": tests, "failed": sorted(bad), "timed_out": run.timed_out}
            cache.write_text(json.dumps(known))
            say(f"{name}: {len(tests)} tests in {run.seconds:.0f} s" + (f", failing: {sorted(bad)}" if bad else ""))
        found |= {
            test: Reach(own, shared, frozenset(calls)) for test, (own, shared, calls) in known[name]["tests"].items()
        }
    return found
