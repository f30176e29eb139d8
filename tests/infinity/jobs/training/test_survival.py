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
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint import load_checkpoint
from infinity.generation.pipeline import Pipeline, load_transformer
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.spec import is_done
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.base import STATE_FOLDER, TrainSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.state import MetricRow
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.faults.killing import Victim, newest_step, train_with_a_kill
from tests.fixtures.jobs.training_sessions import (
    LOOP,
    make_tokenizer,
    tokenizer_spec,
    train_here,
    transformer_spec,
    untimed,
)
from tests.fixtures.limits import AGES_S, wait_until
from tests.infinity.training.distributed.test_joint_checkpoints import two_workers

LONG = LOOP.replace(num_steps=400, log_every_steps=10, save_every_steps=10, sample_every_steps=400)
ONE = WorkersConfig(num_workers=1, threads=1, max_failures=1)
SHARDED = WorkersConfig(num_workers=2, threads=1, max_failures=1, shard=True)
KILLS, STEPS = 10, 900
"""Of one round."""

ROUNDS = [(kind, number) for number in range(5) for kind in ("tokenizer", "transformer", "sharded")]

logger = logging.getLogger(__name__)
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:FSDP2-wrapped module"),  # nothing changes its views in place
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data"))


@dataclass(frozen=True, slots=True)
class End:
    """What two equal runs have in common: weights, averages and running means by name, and the logged rows."""

    tensors: dict[str, Tensor]
    rows: list[MetricRow]

    @classmethod
    def stored(cls, folder: str) -> End:
        """Of a stored state."""
        found = load_checkpoint(folder)
        return cls(found.tensors, untimed(found.extra["history"]))

    @classmethod
    def of_job(cls, spec: TrainSpec) -> End:
        """Of the last state of a job, whose file of metrics tells the same."""
        end = cls.stored(storage.join(spec.folder, STATE_FOLDER, f"step-{spec.loop.num_steps:08d}"))
        lines = (Path(spec.folder) / "metrics.jsonl").read_text().splitlines()
        assert untimed([json.loads(line) for line in lines]) == end.rows
        return end

    @classmethod
    def of_quiet_run(cls, spec: TrainSpec, folder: Path) -> End:
        """Of the same training without a cluster: in this process, or in two forks that share out the weights."""
        if not spec.workers.shard:
            state = train_here(spec).state
            return cls(dict(state.tensors()), untimed(state.history))

        def work(_rank: int) -> None:
            train_here(spec, saves=folder / "quiet", group=ProcessGroup.current())

        assert two_workers(work, folder / "meeting") == [0, 0]
        return cls.stored(str(folder / "quiet" / f"step-{spec.loop.num_steps:08d}"))

    @property
    def losses(self) -> list[float]:
        """As logged."""
        return [row["loss"] for row in self.rows]

    def assert_equals(self, other: End) -> None:
        """Bit for bit."""
        assert self.rows == other.rows
        assert self.tensors.keys() == other.tensors.keys()
        for name, value in self.tensors.items():
            assert torch.equal(value, other.tensors[name]), name


def start(spec: TrainSpec, folder: Path) -> Victim:
    """A driver process with its cluster."""
    file = folder / "job.json"
    file.write_text(json.dumps(spec.to_file()))
    return Victim(["tests.fixtures.faults.job_chaos", str(file)], folder / "job.log")


def wait_for_step(job: Victim, spec: TrainSpec, step: int) -> bool:
    """Until a state of this step or a later one is stored; False if the job ended before."""
    until = time.monotonic() + AGES_S
    while time.monotonic() < until:
        if newest_step(spec) >= step:
            return True
        if job.has_ended:
            return False
        time.sleep(0.05)
    raise AssertionError(f"no step {step} within {AGES_S:.0f} s: {job.log.read_text()[-2000:]}")


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
            if not wait_for_step(jobs[-1], spec, newest_step(spec) + draw.choice((0, 10, 20))):
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
        pytest.skip("minutes; single kills of a worker are here and in test_train_tokenizer.py")
    if (kind, number) not in ROUNDS[share]:
        pytest.skip("another share")
    loop = LONG.replace(num_steps=STEPS, sample_every_steps=STEPS)
    if kind == "tokenizer":
        spec: TrainSpec = tokenizer_spec(tmp_path, manifest, loop=loop, workers=ONE)
    else:
        spec = sharded_spec(tmp_path, manifest, make_tokenizer(tmp_path, manifest), STEPS)
        spec = spec if kind == "sharded" else spec.replace(workers=ONE)
    done = killed_at_random(spec, tmp_path, kills=KILLS, seed=number)
    logger.warning("%s, round %d: %d kills: %s", kind, number, done.total(), dict(done))
    assert done.total() == KILLS, "the run was over before all kills"
    End.of_job(spec).assert_equals(End.of_quiet_run(spec, tmp_path))


def sharded_spec(output: Path, manifest: str, tokenizer: str, num_steps: int) -> TrainTransformerSpec:
    """A transformer whose weights two workers share out."""
    loop = LONG.replace(num_steps=num_steps, sample_every_steps=num_steps, num_parts=2)
    return transformer_spec(output, manifest, tokenizer, loop=loop, workers=SHARDED)


def test_a_sharded_job_with_a_killed_worker_ends_as_a_quiet_one_and_nearly_as_one_worker(
    local_ray: None, tmp_path: Path, manifest: str, exhaustive: bool
) -> None:
    tokenizer = make_tokenizer(tmp_path, manifest, num_steps=10)

    def spec_in(name: str) -> TrainTransformerSpec:
        return sharded_spec(tmp_path / name, manifest, tokenizer, num_steps=50)

    spec, report, steps = train_with_a_kill(train_transformer.run, spec_in, step=20)
    assert steps.count(10) <= 1, "the new workers go on from a checkpoint"
    end, quiet = End.of_job(spec), End.of_quiet_run(spec, tmp_path)
    end.assert_equals(quiet)
    if exhaustive:
        train_transformer.run(spec_in("quiet"))
        End.of_job(spec_in("quiet")).assert_equals(quiet)
    assert [path.name for path in Path(report.model).glob("*.safetensors")] == ["model.safetensors"]
    exported = load_transformer(report.model)[1].state_dict()
    assert exported.keys() == {name.removeprefix("ema/") for name in quiet.tensors if name.startswith("ema/")}
    for name, value in exported.items():
        assert type(value) is Tensor
        assert torch.equal(value, quiet.tensors[f"ema/{name}"]), name
    assert Pipeline.load(report.model).generate(["a red square"]).images_BHW3.shape == (1, 16, 16, 3)
    alone = End.of_quiet_run(spec.replace(workers=ONE), tmp_path)
    assert end.losses == pytest.approx(alone.losses, abs=1e-5)


def test_a_job_goes_on_with_two_sharded_workers_one_and_two_again(
    tmp_path: Path, manifest: str, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("three clusters; test_transformer_step.py changes the number of workers without one")
    spec = sharded_spec(tmp_path, manifest, make_tokenizer(tmp_path, manifest), num_steps=STEPS)
    seen = []
    for workers, until in ((SHARDED, 60), (ONE, 300), (SHARDED, STEPS)):
        job = start(spec.replace(workers=workers), tmp_path)
        try:
            if until < STEPS:
                assert wait_for_step(job, spec, until), "the job was over before it was stopped"
                os.kill(job.process.pid, signal.SIGTERM)
            assert job.process.wait(timeout=AGES_S) == (0 if until == STEPS else 1), job.log.read_text()[-2000:]
        finally:
            job.end()
        newest = Path(spec.folder) / STATE_FOLDER / f"step-{newest_step(spec):08d}"
        seen.append((newest_step(spec) < STEPS, len(list(newest.glob("*.safetensors")))))
    assert seen == [(True, 2), (True, 1), (False, 2)]
    alone = End.of_quiet_run(spec.replace(workers=ONE), tmp_path)
    assert End.of_job(spec).losses == pytest.approx(alone.losses, abs=1e-5)


ASKED = "InterruptedTraining: stopped as asked after step"


@pytest.mark.parametrize(
    ("number", "whom", "said"),
    [
        (signal.SIGTERM, "the process", ASKED),
        (signal.SIGTERM, "its group", ASKED),
        (signal.SIGINT, "its group", "KeyboardInterrupt"),
    ],
)
def test_a_signal_stores_the_state_and_the_job_goes_on_from_there(
    number: signal.Signals, whom: str, said: str, tmp_path: Path, manifest: str, exhaustive: bool
) -> None:
    """Prefect's runner, a terminal and a service manager signal the whole process group; Ctrl-C is SIGINT."""
    if (number, whom) != (signal.SIGTERM, "its group") and not exhaustive:
        pytest.skip("one more cluster; by default the group, which holds the process, gets SIGTERM")
    never = 30_000
    rarely = LONG.replace(num_steps=never, save_every_steps=never, sample_every_steps=never)
    spec = tokenizer_spec(tmp_path, manifest, loop=rarely, workers=ONE)
    job = start(spec, tmp_path)
    try:
        wait_until(lambda: "step 20 of" in job.log.read_text() or job.has_ended, "step 20", period_s=0.1)
        if whom == "its group":
            job.signal_group(number)
        else:
            os.kill(job.process.pid, number)
        told_at = time.monotonic()
        job.process.wait(timeout=AGES_S)
        wait_until(lambda: not list(job.family()), "the end of all that the job started")
        logger.warning("nothing lives %.1f s after %s to %s", time.monotonic() - told_at, number.name, whom)
    finally:
        job.end()
    assert said in job.log.read_text()
    assert 20 <= newest_step(spec) < never
