"""An evaluation over prompts that is killed five times on the way ends in the same files, byte for byte.

All pictures of both benchmarks, 553 x 4 of GenEval and 1065 x 4 of DPG-Bench, with three kills of the driver and two of
workers: minutes, so that it runs with ``--exhaustive`` only. A crash and killed workers of a slice are in
``test_evaluate_prompts.py``.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.spec import is_done, load_report
from tests.fixtures.data.prompt_sets import prompt_sets_spec
from tests.fixtures.faults.killing import Victim
from tests.fixtures.limits import AGES_S

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.reference]


@dataclass(frozen=True)
class Kill:
    """Whom to kill once so many files of a kind are in the store."""

    whom: Literal["driver", "worker"]
    folder: Literal["pictures", "verdicts"]
    num_files: int


def start(spec: EvaluateSpec, folder: Path) -> Victim:
    """A driver process with its cluster; whatever is left of them is gone at the end."""
    file = folder / "job.json"
    file.write_text(json.dumps(spec.to_file()))
    return Victim(["infinity.cli", "run", str(file)], folder / "job.log")


def kill_worker(job: Victim) -> bool:
    """Kill the first worker that is there."""
    for process in job.family():
        if process.name.startswith("ray::_Evaluatio"):
            os.kill(process.number, signal.SIGKILL)
            return True
    return False


def num_files(spec: EvaluateSpec, folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(Path(spec.output) / "store" / folder))


def run_with_kills(spec: EvaluateSpec, folder: Path, kills: list[Kill], patience_s: float) -> EvaluateReport:
    """Run the job to its end, again after every kill of the driver; all kills must have happened."""
    waiting, until = list(kills), time.monotonic() + patience_s
    job = start(spec, folder)
    try:
        while not is_done(spec):
            assert time.monotonic() < until, job.log.read_text()[-3000:]
            if job.process.poll() is not None:
                assert job.process.returncode < 0, job.log.read_text()[-3000:]
                job.end()
                job = start(spec, folder)
            if waiting and num_files(spec, waiting[0].folder) >= waiting[0].num_files:
                if waiting[0].whom == "driver":
                    job.kill_driver()
                    waiting.pop(0)
                elif kill_worker(job):
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
