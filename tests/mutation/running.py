"""Run tests in forks of a process that holds the heavy packages: with one mutant, or with none to see their reach."""

from __future__ import annotations

import contextlib
import gc
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
import time
from collections.abc import Callable, Mapping, Sequence
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
    "moto.server", "moto.s3.responses", "safetensors.torch", "jaxtyping", "transformers", "webdataset",
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
    register_profile()
    gc.collect()
    gc.freeze()  # no fork collects, and so copies, what they share


def register_profile() -> None:
    """Make examples of hypothesis repeatable, without a search for small ones or a memory of earlier mutants."""
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


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


class Told:
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
    plugin: Callable[[int], Told],
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


def _in_child(files: Sequence[str], plugin: Told, mutant: Mutant | None, folder: str) -> int:
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


def judged(mutant: Mutant, allowed_s: Mapping[str, float]) -> tuple[str, str]:
    """Outcome of a mutant over some tests ("killed", "timed out", "survived"), and the test that decided.

    Args:
        mutant: What is changed.
        allowed_s: Processor seconds that each test may take, in the order in which they run.
    """
    files = list(dict.fromkeys(test.partition("::")[0] for test in allowed_s))
    run = fork(files, lambda pipe: Told(pipe, allowed_s), mutant=mutant)
    started = next((str(line[1]) for line in reversed(run.told) if line[0] == "start"), "import")
    if run.timed_out:
        return "timed out", started
    if run.failed is not None:
        return "killed", run.failed
    if run.code is None:
        return "killed", f"{started} (process died)"
    if run.code == 0:
        return "survived", f"{len(allowed_s)} tests"
    return "error", f"pytest ended with {run.code}"
