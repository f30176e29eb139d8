"""The driver of a training asks for the machines that its workers need, and says what it cannot have."""

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training import driver
from infinity.jobs.training.base import TrainSpec
from infinity.training.learner import LoopConfig, TrainingError
from tests.fixtures.training_sessions import LOOP, tokenizer_spec


def _loop(num_parts: int) -> LoopConfig:
    return LOOP.replace(batch_size=num_parts, num_parts=num_parts)


class AskedError(Exception):
    """Ends the driver where it would start Ray."""


@pytest.mark.parametrize(("num_workers", "threads"), [(1, 1), (200, 3), (3, 200)])
def test_ray_has_a_processor_for_every_thread_of_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int, threads: int
) -> None:
    """On this machine Ray counts processors by what it is told; too few, and the workers would wait for ever."""

    def asked(**options: Any) -> NoReturn:
        raise AskedError(options["num_cpus"])

    monkeypatch.setattr(driver, "connect", asked)
    workers = WorkersConfig(num_workers=num_workers, threads=threads)
    spec: TrainSpec = tokenizer_spec(tmp_path, "manifest.parquet", workers=workers, loop=_loop(num_workers))
    with pytest.raises(AskedError) as found:
        driver._train_on_ray(spec, None, None)  # type: ignore[arg-type]  # neither is reached
    assert found.value.args == (max(num_workers * threads, os.cpu_count() or 1),)


@pytest.mark.parametrize("num_workers", [2, 5])
def test_a_training_in_this_process_has_one_worker(tmp_path: Path, num_workers: int) -> None:
    workers = WorkersConfig(num_workers=num_workers)
    spec = tokenizer_spec(tmp_path, "manifest.parquet", workers=workers, loop=_loop(num_workers))
    with pytest.raises(TrainingError, match=f"has one worker, the spec asks for {num_workers}"):
        driver._train_here(spec, None, None)  # type: ignore[arg-type]  # neither is reached
