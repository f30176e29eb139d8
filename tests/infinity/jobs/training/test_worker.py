"""A worker that fails alone ends the training of all, soon and with its own words."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import silent
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training import worker as training_worker
from infinity.jobs.training.base import OnProgress, Session, TrainSpec
from infinity.jobs.training.driver import _first_cause, run_training
from infinity.storage.backends.local import explained
from infinity.storage.leases.lease import acquire
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import TrainingError
from infinity.training.tokenizer.collapse import CollapseError
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.process_groups import exit_codes, work_together
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, tokenizer_spec, transformer_spec
from tests.fixtures.limits import AGES_S

TWO = WorkersConfig(num_workers=2, threads=1, max_failures=0)
TWO_PARTS = LOOP.replace(num_parts=2, num_steps=4)
TORCH_WAITS_S = 1800.0
"""How long torch waits for a worker that is gone; a busy machine starts a cluster in less."""


def _made(spec: TrainSpec, group: ProcessGroup, device: torch.device, told: OnProgress) -> Session[Any]:
    build: Any = train_tokenizer.build if spec.kind == "tokenizer" else train_transformer.build
    session: Session[Any] = build(spec, group, device, told)
    return session


def loader_fails(spec: TrainSpec, group: ProcessGroup, device: torch.device, told: OnProgress) -> Session[Any]:
    """The second worker cannot read its part of the third batch."""
    made = _made(spec, group, device, told)
    loader = made.loader

    def fails(step: int) -> Any:
        if step == 2 and group.rank == 1:
            raise OSError("the disk of the second worker is gone")
        return loader(step)

    return Session(made.state, made.task, fails, made.draw, made.export, made.joint, made.ready)


def drawing_fails(spec: TrainSpec, group: ProcessGroup, device: torch.device, told: OnProgress) -> Session[Any]:
    """The first worker cannot draw its samples, while the second one goes on."""
    training_worker.PATIENCE_S = 2.0
    made = _made(spec, group, device, told)

    def fails() -> Any:
        raise MemoryError("no room for the sheet")

    return Session(made.state, made.task, made.loader, fails, made.export, made.joint, made.ready)


def refused_by_one(spec: TrainSpec, group: ProcessGroup, device: torch.device, told: OnProgress) -> Session[Any]:
    """The second worker finds a reason to stop that the first one does not find."""
    training_worker.PATIENCE_S = 2.0
    if group.rank == 1:
        raise TrainingError("there is no compiler on the second machine")
    return _made(spec, group, device, told)


def refused_by_all(spec: TrainSpec, group: ProcessGroup, device: torch.device, told: OnProgress) -> Session[Any]:
    """Both find it, one a moment later."""
    time.sleep(2.0 * group.rank)
    raise CollapseError("these bits say nothing")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("data")
    manifest = make_data(folder)
    return manifest, make_tokenizer(folder, manifest, num_steps=10)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "build", "error", "told"),
    [
        ("tokenizer", loader_fails, TrainingError, "the disk of the second worker is gone"),
        ("tokenizer", drawing_fails, TrainingError, "no room for the sheet"),
        ("transformer", refused_by_one, TrainingError, "there is no compiler on the second machine"),
        ("transformer", refused_by_all, CollapseError, "these bits say nothing"),
    ],
)
def test_what_one_worker_raises_ends_all_and_is_told(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    data: tuple[str, str],
    exhaustive: bool,
    kind: str,
    build: Any,
    error: type[Exception],
    told: str,
) -> None:
    if build is not refused_by_one and not exhaustive:
        pytest.skip("three more trainings on Ray; by default a worker that stops alone is one of two forks below")
    request.getfixturevalue("local_ray")
    loop = TWO_PARTS.replace(sample_every_steps=2)
    spec: TrainSpec = (
        tokenizer_spec(tmp_path, data[0], loop=loop, workers=TWO)
        if kind == "tokenizer"
        else transformer_spec(tmp_path, *data, loop=loop, workers=TWO)
    )
    started = time.monotonic()
    with pytest.raises(error, match=told) as caught:
        run_training(spec, build, "Training", silent)
    assert type(caught.value) is error
    assert time.monotonic() - started < TORCH_WAITS_S, "the others waited for a time-out of torch"


@pytest.mark.parametrize("everybody", [False, True])
def test_only_what_all_workers_find_is_an_outcome(
    tmp_path: Path, data: tuple[str, str], monkeypatch: pytest.MonkeyPatch, everybody: bool
) -> None:
    """What one finds alone is an error, at which Ray Train ends all of them."""
    monkeypatch.setattr(training_worker, "PATIENCE_S", AGES_S if everybody else 0.5)
    spec = transformer_spec(tmp_path, *data, loop=TWO_PARTS, workers=TWO)
    lease = acquire(spec.folder, silence_s=AGES_S)

    def build(*_: object) -> Any:
        raise CollapseError("these bits say nothing")

    def work(group: ProcessGroup) -> None:
        task = {"spec": spec, "sink": lambda _: None, "stop": lambda: False, "fence": lease.fence, "build": build}
        if everybody:
            assert training_worker.work_on(task, group, torch.device("cpu"))["stopped"] == "CollapseError"
        elif group.rank == 1:
            with pytest.raises(CollapseError, match="these bits say nothing"):
                training_worker.work_on(task, group, torch.device("cpu"))
        else:
            group.apart()  # as a worker that trains on

    work_together(2, work, tmp_path / "meeting")
    lease.release(finished=False)


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "is read-only")])
def test_a_full_disk_is_an_outcome_that_no_new_worker_would_change(
    tmp_path: Path, data: tuple[str, str], number: int, reason: str
) -> None:
    """Ray Train would start the worker anew, twice, before it told anybody."""
    spec = transformer_spec(tmp_path, *data)
    lease = acquire(spec.folder, silence_s=AGES_S)

    def build(*_: object) -> Any:
        with explained("write", "/runs/x"):
            raise OSError(number, os.strerror(number))

    task = {"spec": spec, "sink": silent, "stop": lambda: False, "fence": lease.fence, "build": build}
    found = training_worker.work_on(task, ProcessGroup(), torch.device("cpu"))
    assert found["stopped"] == "TrainingError"
    assert found["message"].startswith("training stopped: cannot write /runs/x: ")
    assert reason in found["message"]
    lease.release(finished=False)


def test_the_cause_is_told_and_not_who_lost_touch_with_it() -> None:
    class Failed(Exception):
        worker_failures = {  # noqa: RUF012
            0: "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:61635: Connection reset by peer",
            1: "Traceback\nValueError: the cause",
            2: "ValueError: another one",
        }

    assert _first_cause(Failed()) == "ValueError: the cause"


def test_processes_learn_whether_all_of_them_have_come(tmp_path: Path) -> None:
    def both(group: ProcessGroup) -> None:
        assert group.apart().all_come(AGES_S)

    def one(group: ProcessGroup) -> None:
        apart = group.apart()
        assert group.rank == 0 or not apart.all_come(0.5)

    assert exit_codes(2, both, tmp_path / "both") == [0, 0]
    assert exit_codes(2, one, tmp_path / "one") == [0, 0]
    assert ProcessGroup().all_come(0.0)
