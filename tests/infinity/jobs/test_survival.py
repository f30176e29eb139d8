"""Kills of workers and of the driver, at any moment, change nothing about the weights in the end.

``pytest --exhaustive`` runs every round; ``--share 2/10`` the second of them. Kills are counted and printed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from infinity import storage
from infinity.checkpoint import load_checkpoint
from infinity.jobs.spec import is_done
from infinity.jobs.training import STATE_FOLDER, TrainSpec, WorkersConfig
from tests.infinity.jobs.killing import Victim
from tests.infinity.training.pictures import make_data
from tests.infinity.training.sessions import LOOP, make_tokenizer, tokenizer_spec, train_here, transformer_spec
from tests.limits import AGES_S, wait_until

LONG = LOOP.replace(num_steps=400, log_every_steps=10, save_every_steps=10, sample_every_steps=400)
ONE = WorkersConfig(num_workers=1, threads=1, max_failures=1)
KILLS, STEPS = 10, 900
"""Of one round."""

ROUNDS = [(kind, number) for number in range(5) for kind in ("tokenizer", "transformer")]

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data"))


def start(spec: TrainSpec, folder: Path) -> Victim:
    """A driver process with its cluster."""
    file = folder / "job.json"
    file.write_text(json.dumps(spec.to_file()))
    return Victim(["tests.infinity.jobs.chaos", str(file)], folder / "job.log")


def wait_for_step(job: Victim, spec: TrainSpec, step: int) -> bool:
    """Until a state of this step or a later one is stored; False if the job ended before."""
    until = time.monotonic() + AGES_S
    while time.monotonic() < until:
        if _newest(spec) >= step:
            return True
        if job.has_ended:
            return False
        time.sleep(0.05)
    raise AssertionError(f"no step {step} within {AGES_S:.0f} s: {job.log.read_text()[-2000:]}")


def _newest(spec: TrainSpec) -> int:
    folder = Path(spec.folder) / STATE_FOLDER
    markers = folder.glob("step-*/COMMITTED")
    return max((int(marker.parent.name.removeprefix("step-")) for marker in markers), default=-1)


def killed_at_random(spec: TrainSpec, folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Run the job, killing at random moments while kills are left; how often who was killed.

    A worker dies alone; a driver with all it started, or alone, so that what it started must notice that by itself
    while the same job begins again beside it.
    """
    draw, done = random.Random(seed), Counter[str]()
    jobs = [start(spec, folder)]
    try:
        while not is_done(spec):
            if jobs[-1].has_ended:
                jobs.append(start(spec, folder))
            if done.total() >= kills:
                jobs[-1].process.wait(timeout=AGES_S)
                continue
            if not wait_for_step(jobs[-1], spec, _newest(spec) + draw.choice((0, 10, 20))):
                continue
            time.sleep(draw.random())
            workers = jobs[-1].workers()
            if not workers or is_done(spec):
                continue
            victim = draw.choice(("worker", "worker", "worker", "driver", "driver with its cluster"))
            if victim == "worker":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(workers), signal.SIGKILL)
            elif victim == "driver":
                jobs[-1].kill_driver()
            else:
                jobs.pop().end()
                jobs.append(start(spec, folder))
            done[victim] += 1
            while len(jobs) > 2:
                jobs.pop(0).end()
    finally:
        for job in jobs:
            job.end()
    return done


@pytest.mark.parametrize(("kind", "number"), ROUNDS)
def test_random_kills_of_workers_and_driver_end_in_the_same_weights(
    kind: str, number: int, tmp_path: Path, manifest: str, exhaustive: bool, share: slice
) -> None:
    if not exhaustive:
        pytest.skip("minutes; one kill of a worker is in test_train_tokenizer.py, --exhaustive runs ten rounds of ten")
    if (kind, number) not in ROUNDS[share]:
        pytest.skip("another share")
    loop = LONG.replace(num_steps=STEPS, sample_every_steps=STEPS)
    if kind == "tokenizer":
        spec: TrainSpec = tokenizer_spec(tmp_path, manifest, loop=loop, workers=ONE)
    else:
        spec = transformer_spec(tmp_path, manifest, make_tokenizer(tmp_path, manifest), loop=loop, workers=ONE)
    done = killed_at_random(spec, tmp_path, kills=KILLS, seed=number)
    logger.warning("%s, round %d: %d kills: %s", kind, number, done.total(), dict(done))
    assert done.total() == KILLS, "the run was over before all kills"
    end = load_checkpoint(storage.join(spec.folder, STATE_FOLDER, f"step-{STEPS:08d}"))
    quiet = train_here(spec).state
    expected = dict(quiet.tensors())
    assert end.tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(value, end.tensors[name]), name
    rows = [json.loads(line) for line in (Path(spec.folder) / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [row["loss"] for row in quiet.history]


def test_sigterm_stores_the_state_and_the_job_goes_on_from_there(tmp_path: Path, manifest: str) -> None:
    never = 30_000
    rarely = LONG.replace(num_steps=never, save_every_steps=never, sample_every_steps=never)
    spec = tokenizer_spec(tmp_path, manifest, loop=rarely, workers=ONE)
    job = start(spec, tmp_path)
    try:
        wait_until(lambda: "step 20 of" in job.log.read_text() or job.has_ended, "step 20", period_s=0.1)
        os.kill(job.process.pid, signal.SIGTERM)
        job.process.wait(timeout=AGES_S)
    finally:
        job.end()
    assert "InterruptedTraining: stopped as asked after step" in job.log.read_text()
    assert 20 <= _newest(spec) < never
