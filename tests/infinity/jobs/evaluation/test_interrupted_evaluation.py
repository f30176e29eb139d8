"""An evaluation over prompts that is killed five times on the way ends in the same files, byte for byte.

All pictures of both benchmarks, 553 x 4 of GenEval and 1065 x 4 of DPG-Bench, with three kills of the driver and two of
workers: minutes, so that it runs with ``--exhaustive`` only. A crash and killed workers of a slice are in
``test_evaluate_prompts.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from infinity.jobs.evaluation.evaluate import EvaluateReport, EvaluateSpec
from infinity.jobs.spec import is_done, load_report
from tests.fixtures.limits import AGES_S
from tests.fixtures.prompt_sets import prompt_sets_spec

REPOSITORY = Path(__file__).parents[3]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.reference]


@dataclass(frozen=True)
class Kill:
    """Whom to kill once so many files of a kind are in the store."""

    whom: Literal["driver", "worker"]
    folder: Literal["pictures", "verdicts"]
    num_files: int


class Job:
    """A driver process with its cluster, all in one session; whatever is left of them is gone at the end."""

    def __init__(self, spec: EvaluateSpec, folder: Path) -> None:
        file = folder / "job.json"
        file.write_text(json.dumps(spec.to_file()))
        self.log = folder / "job.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infinity.jobs", "run", str(file)],
                cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
            )  # fmt: skip

    def processes(self) -> Iterator[tuple[int, str]]:
        """Number and name of every process of the session."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = status.read_text()
                if int(text.rpartition(")")[2].split()[3]) == self.process.pid:
                    yield int(status.parent.name), text.partition("(")[2].rpartition(")")[0]

    def kill_worker(self) -> bool:
        """Kill the first worker that is there."""
        for number, name in self.processes():
            if name.startswith("ray::_Evaluatio"):
                os.kill(number, signal.SIGKILL)
                return True
        return False

    def end(self) -> None:
        """Kill everything of the session."""
        for number, _ in list(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(timeout=AGES_S)


def num_files(spec: EvaluateSpec, folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(Path(spec.output) / "store" / folder))


def run_with_kills(spec: EvaluateSpec, folder: Path, kills: list[Kill], patience_s: float) -> EvaluateReport:
    """Run the job to its end, again after every kill of the driver; all kills must have happened."""
    waiting, until = list(kills), time.monotonic() + patience_s
    job = Job(spec, folder)
    try:
        while not is_done(spec):
            assert time.monotonic() < until, job.log.read_text()[-3000:]
            if job.process.poll() is not None:
                assert job.process.returncode < 0, job.log.read_text()[-3000:]
                job.end()
                job = Job(spec, folder)
            if waiting and num_files(spec, waiting[0].folder) >= waiting[0].num_files:
                if waiting[0].whom == "driver":
                    job.process.kill()
                    job.process.wait()
                    waiting.pop(0)
                elif job.kill_worker():
                    waiting.pop(0)
            time.sleep(0.02)
        job.process.wait(timeout=AGES_S)
    finally:
        job.end()
    assert not waiting, f"finished before {waiting[0]}"
    return load_report(spec, EvaluateReport)


def files_of(spec: EvaluateSpec) -> dict[str, bytes]:
    """Every file of a finished evaluation and of its store.

    Left out are the place, the time that passed, and drafts (hidden files, which nothing reads) of killed writers.
    """
    folder, found = Path(spec.output), {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            content = path.read_bytes().replace(str(folder).encode(), b"<output>")
            if path.name == "spec.json":
                content = json.dumps({**json.loads(content)["spec"], "workers": None}).encode()
            if path.name == "report.json":
                content = json.dumps({**json.loads(content), "seconds": None}).encode()
            found[str(path.relative_to(folder))] = content
    return found


def test_killed_evaluation_ends_in_the_same_files(tmp_path: Path, shared: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("ten minutes; a slice is killed in test_evaluate_prompts.py, --exhaustive kills the whole sets")
    spec = prompt_sets_spec(tmp_path, shared, prompts_per_task=None, num_prompts=None, batch_size=64)
    kills = [
        Kill("driver", "pictures", 800),
        Kill("worker", "pictures", 2500),
        Kill("driver", "pictures", 5000),
        Kill("worker", "verdicts", 300),
        Kill("driver", "verdicts", 1000),
    ]
    started = time.monotonic()
    report = run_with_kills(spec, tmp_path, kills, patience_s=3000)
    print(f"with {len(kills)} kills: {time.monotonic() - started:.0f} s")
    scores = {score.metric: score for score in report.scores}
    assert scores["geneval.overall"].n == 2212
    assert scores["dpg.overall"].n == 1065
    quiet = spec.replace(output=str(tmp_path / "quiet"))
    started = time.monotonic()
    run_with_kills(quiet, tmp_path, [], patience_s=3000)
    print(f"without: {time.monotonic() - started:.0f} s")
    killed, undisturbed = files_of(spec), files_of(quiet)
    assert set(killed) == set(undisturbed)
    assert [name for name, content in killed.items() if content != undisturbed[name]] == []
