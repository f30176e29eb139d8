"""Kills of workers and of the driver, at any moment, change nothing about the weights in the end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from infinity import storage
from infinity.checkpoint import load_checkpoint
from infinity.jobs.spec import is_done
from infinity.jobs.training import STATE_FOLDER, TrainSpec, WorkersConfig
from tests.infinity.training.pictures import make_data
from tests.infinity.training.sessions import LOOP, make_tokenizer, tokenizer_spec, train_here, transformer_spec

REPOSITORY = Path(__file__).parents[3]
LONG = LOOP.replace(num_steps=400, log_every_steps=10, save_every_steps=10, sample_every_steps=400)
ONE = WorkersConfig(num_workers=1, threads=1, max_failures=1)

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data"))


class Job:
    """A driver process with its cluster; whatever is left of them is gone at the end."""

    def __init__(self, spec: TrainSpec, folder: Path) -> None:
        file = folder / "job.json"
        file.write_text(json.dumps(spec.to_file()))
        self.log = folder / "job.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.infinity.jobs.chaos", str(file)],
                cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
            )  # fmt: skip

    def workers(self) -> list[int]:
        """Processes of this job's session that train."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = status.read_text()
                name, session = text.partition("(")[2].rpartition(")")[0], int(text.rpartition(")")[2].split()[3])
                if session == self.process.pid and name.startswith("ray::RayTrain"):
                    found.append(int(status.parent.name))
        return found

    def end(self) -> None:
        """Kill everything of the session."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if int(status.read_text().rpartition(")")[2].split()[3]) == self.process.pid:
                    os.kill(int(status.parent.name), signal.SIGKILL)
        self.process.wait(timeout=30)


def wait_for_step(job: Job, spec: TrainSpec, step: int, patience_s: float = 120.0) -> bool:
    """Until a state of this step or a later one is stored; False if the job ended before."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if _newest(spec) >= step:
            return True
        if job.process.poll() is not None:
            return False
        time.sleep(0.05)
    raise AssertionError(f"no step {step} within {patience_s} s: {job.log.read_text()[-2000:]}")


def _newest(spec: TrainSpec) -> int:
    folder = Path(spec.folder) / STATE_FOLDER
    markers = folder.glob("step-*/COMMITTED")
    return max((int(marker.parent.name.removeprefix("step-")) for marker in markers), default=-1)


def killed_at_random(spec: TrainSpec, folder: Path, *, kills: int, seed: int) -> int:
    """Run the job, killing driver or worker at random moments while kills are left; how many there were."""
    draw, done = random.Random(seed), 0
    job = Job(spec, folder)
    try:
        while not is_done(spec):
            if job.process.poll() is not None:
                job.end()
                job = Job(spec, folder)
            if done >= kills:
                job.process.wait(timeout=300)
                continue
            if not wait_for_step(job, spec, _newest(spec) + draw.choice((0, 10, 20))):
                continue
            time.sleep(draw.random())
            if workers := job.workers():
                if draw.random() < 0.3:
                    job.end()
                else:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(draw.choice(workers), signal.SIGKILL)
                done += 1
    finally:
        job.end()
    return done


@pytest.mark.parametrize("kind", ["tokenizer", "transformer"])
def test_random_kills_of_workers_and_driver_end_in_the_same_weights(
    kind: str, tmp_path: Path, manifest: str, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("minutes; one kill of a worker is in test_train_tokenizer.py, --exhaustive runs fifty of each kind")
    steps = 6000
    loop = LONG.replace(num_steps=steps, sample_every_steps=steps)
    if kind == "tokenizer":
        spec: TrainSpec = tokenizer_spec(tmp_path, manifest, loop=loop, workers=ONE)
    else:
        spec = transformer_spec(tmp_path, manifest, make_tokenizer(tmp_path, manifest), loop=loop, workers=ONE)
    kills = killed_at_random(spec, tmp_path, kills=50, seed=1)
    assert kills > 0
    end = load_checkpoint(storage.join(spec.folder, STATE_FOLDER, f"step-{steps:08d}"))
    quiet = train_here(spec).state
    assert {name: value.shape for name, value in end.tensors.items()} == {
        name: value.shape for name, value in quiet.tensors()
    }
    for name, value in quiet.tensors():
        assert torch.equal(value, end.tensors[name]), name


def test_sigterm_stores_the_state_and_the_job_goes_on_from_there(tmp_path: Path, manifest: str) -> None:
    rarely = LONG.replace(num_steps=3000, save_every_steps=3000, sample_every_steps=3000)
    spec = tokenizer_spec(tmp_path, manifest, loop=rarely, workers=ONE)
    job = Job(spec, tmp_path)
    try:
        until = time.monotonic() + 120
        while "step 20 of" not in job.log.read_text() and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(job.process.pid, signal.SIGTERM)
        job.process.wait(timeout=60)
    finally:
        job.end()
    assert "InterruptedTraining: stopped as asked after step" in job.log.read_text()
    assert 20 <= _newest(spec) < 3000
