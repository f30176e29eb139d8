"""Run tests in forks of a process that holds the heavy packages: with one mutant, or with none to see their reach."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from infra.environment import apply_common_environment
from tests.mutation.mutants import Mutant, mutated_code

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = "ray or prefect or browser or gpu or slow or reference"
UNSUITED = "sharded_workers or two_workers or killed_in_any_act or whichever_worker or by_heart"
"""Tests, by parts of their names, that start processes of their own, which know no mutant, or train for minutes."""

_HEAVY = (
    "torch", "numpy", "scipy.linalg", "scipy.stats", "pyarrow.parquet", "PIL.Image", "boto3", "httpx", "aiohttp",
    "moto.server", "moto.s3.responses", "safetensors.torch", "einops", "jaxtyping", "transformers", "webdataset",
    "pydantic_settings", "typer", "hypothesis.strategies", "torch.utils.data", "torch.distributed.fsdp",
)  # fmt: skip
_GIB = 2**30


def warm_up() -> None:
    """Import once what every fork needs. Nothing of the repository but this package: forks import their mutant."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the running fork ends with this process
    os.environ.update(INFINITY_SHARED=str(ROOT / "absent"), OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the search for plugins takes longer than most tests
    apply_common_environment()  # some packages read it when they are imported
    for name in _HEAVY:
        importlib.import_module(name)
    # Repeatable, without the search for small examples, and without a memory of earlier mutants.
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    gc.collect()
    gc.freeze()  # no fork collects, and so copies, what they share


class _Loader(importlib.machinery.SourceFileLoader):
    mutant: Mutant

    def get_code(self, fullname: str) -> Any:
        return mutated_code(Path(self.path).read_text(encoding="utf-8"), self.path, self.mutant)


class MutantFinder(importlib.abc.MetaPathFinder):
    """Import one module changed."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Find the module as usual, and give it a loader that changes it."""
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
        loader = _Loader(spec.loader.name, spec.loader.path)
        loader.mutant = self.mutant
        spec.loader = loader
        return spec


class _Told:
    """Tells the parent what happens, one line of JSON each, and runs the chosen tests only."""

    def __init__(self, pipe: int, chosen: Mapping[str, float] | None) -> None:
        """``chosen``: processor seconds that each test may take; None runs all."""
        self.pipe = pipe
        self.chosen = chosen
        self.order = None if chosen is None else {name: place for place, name in enumerate(chosen)}

    def tell(self, *what: object) -> None:
        os.write(self.pipe, (json.dumps(what) + "\n").encode())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.order is not None:
            order = self.order
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell("start", nodeid)
        if self.chosen is not None:
            signal.setitimer(signal.ITIMER_PROF, self.chosen[nodeid])  # its signal ends the process

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tell("failed", report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.tell("failed", report.nodeid)


class _Reach(_Told):
    """Tells too which functions of the library each test calls; a fixture of several tests counts for all of them."""

    def __init__(self, pipe: int) -> None:
        super().__init__(pipe, None)
        self.codes: set[Any] = set()
        self.fixtures: dict[str, set[Any]] = {}
        self.fixture_s: dict[str, float] = {}

    def _trace(self, frame: Any, event: str, argument: object) -> None:
        self.codes.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before, self.codes, began = self.codes, set(), time.process_time()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.fixture_s[fixturedef.argname] = time.process_time() - began
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
            shared_s = sum(self.fixture_s.get(name, 0.0) for name in names)  # whoever comes first pays it
            self.tell("reached", item.nodeid, max(time.process_time() - began, shared_s), calls)


def _names(codes: set[Any]) -> list[str]:
    own = f"{ROOT}/infinity/"
    names = ((code.co_filename, code.co_qualname.partition(".<locals>")[0]) for code in codes)
    return sorted({f"{file.removeprefix(f'{ROOT}/')}::{name}" for file, name in names if file.startswith(own)})


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one fork: the lines it told, and whether it was stopped because a test took too long."""

    told: list[list[Any]]
    timed_out: bool
    seconds: float

    @property
    def failed(self) -> str | None:
        """First test that failed."""
        return next((str(line[1]) for line in self.told if line[0] == "failed"), None)

    @property
    def code(self) -> int | None:
        """Exit code of pytest; None if the process died."""
        return next((int(line[1]) for line in self.told if line[0] == "end"), None)


def fork(
    files: Sequence[str],
    plugin: Callable[[int], _Told],
    *,
    mutant: Mutant | None = None,
    silence_s: float = 300.0,
) -> Run:
    """Run test files in a fork and listen to it; if it tells nothing for so long it is stopped, since it hangs."""
    began, folder = time.perf_counter(), tempfile.mkdtemp(prefix="mu-")
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        code = 70
        with contextlib.suppress(BaseException):
            code = _in_child(files, plugin(writing), mutant, folder)
        os.write(writing, (json.dumps(["end", code]) + "\n").encode())
        os._exit(0)
    os.close(writing)
    told: list[list[Any]] = []
    try:
        is_silent = not _listen(reading, told, silence_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # with whatever the tests started
        _, status = os.waitpid(process, 0)
        os.close(reading)
        shutil.rmtree(folder, ignore_errors=True)
    spent_all = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
    return Run(told, is_silent or spent_all, time.perf_counter() - began)


def _in_child(files: Sequence[str], plugin: _Told, mutant: Mutant | None, folder: str) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    os.chdir(ROOT)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    resource.setrlimit(resource.RLIMIT_AS, (32 * _GIB, 32 * _GIB))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_GIB, _GIB))
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    if mutant is not None:
        sys.meta_path.insert(0, MutantFinder(mutant))
    options = ["-x"] if mutant is not None else []
    plain = ["-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", "--hypothesis-profile=mutation"]
    quiet = [
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "--basetemp",
        f"{folder}/t",
        "-m",
        f"not ({NOT_RUN})",
        "-k",
        f"not ({UNSUITED})",
    ]
    return int(pytest.main([*plain, *quiet, *options, *files], plugins=[plugin]))


def _listen(pipe: int, told: list[list[Any]], silence_s: float) -> bool:
    """Read until the end; False if nothing was told for longer than allowed."""
    rest = b""
    while select.select([pipe], [], [], silence_s)[0]:
        if not (chunk := os.read(pipe, 2**16)):
            return True
        *lines, rest = (rest + chunk).split(b"\n")
        told += map(json.loads, lines)
        if told and told[-1][0] == "end":
            return True
    return False


def reach(files: Sequence[Path], cache: Path, say: Callable[[str], None]) -> dict[str, tuple[float, frozenset[str]]]:
    """Processor seconds of every test and what it calls; test files that have not changed are not run again."""
    names = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "infinity").rglob("*.py"))]
    known: dict[str, Any] = json.loads(cache.read_text()) if cache.exists() else {}
    found: dict[str, tuple[float, frozenset[str]]] = {}
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
        found |= {test: (seconds, frozenset(calls)) for test, (seconds, calls) in known[name]["tests"].items()}
    return found


def judged(mutant: Mutant, tests: Sequence[str], seconds: Mapping[str, float]) -> tuple[str, str]:
    """Outcome of a mutant over some tests ("killed", "timed out", "survived"), and the test that decided."""
    if not tests:
        return "survived", "no test reaches it"
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    run = fork(
        files,
        lambda pipe: _Told(pipe, {test: 10.0 + 10.0 * seconds[test] for test in tests}),
        mutant=mutant,
    )
    started = next((str(line[1]) for line in reversed(run.told) if line[0] == "start"), "import")
    if run.timed_out:
        return "timed out", started
    if run.failed is not None:
        return "killed", run.failed
    if run.code is None:
        return "killed", f"{started} (process died)"
    if run.code == 0:
        return "survived", f"{len(tests)} tests"
    return "error", f"pytest ended with {run.code}"
