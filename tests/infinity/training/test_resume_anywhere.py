"""Killed at any step, in the middle of any of its acts, a training that goes on ends as if nothing had happened.

What runs is what a worker of a job runs, in a fork of this process that really dies. By default a few points are tried;
``pytest --exhaustive`` kills at every step of both trainings, in every act.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint import load_checkpoint
from infinity.jobs.training import worker as training_worker
from infinity.jobs.training.base import MODEL_FOLDER, SAMPLES_FOLDER, STATE_FOLDER, TrainSpec
from infinity.training.meter import TIMED
from infinity.training.metrics import METRICS_FILE
from infinity.training.tokenizer.objective import TokenizerLosses
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.faults.storage_faults import in_a_dying_process
from tests.fixtures.jobs.training_sessions import ALONE, LOOP, make_tokenizer, session, tokenizer_spec, transformer_spec

Act = Literal["loss", "update", "log", "sample", "save"]
ACTS: tuple[Act, ...] = get_args(Act)
KINDS = ("tokenizer", "transformer")
STEPS = 9
SHORT = LOOP.replace(num_steps=STEPS, num_parts=2, log_every_steps=1, save_every_steps=2, sample_every_steps=3)
DEFAULT_POINTS = 2
"""Of each kind, without --exhaustive."""


@dataclass(frozen=True)
class End:
    """What a finished training leaves."""

    state: dict[str, Tensor]
    facts: dict[str, Any]
    model: dict[str, Tensor]
    metrics: list[dict[str, float]]
    sheets: dict[str, bytes]
    batches: dict[int, set[str]]

    @classmethod
    def of(cls, spec: TrainSpec) -> End:
        folder = Path(spec.folder)
        last = load_checkpoint(storage.join(spec.folder, STATE_FOLDER, f"step-{STEPS:08d}"))
        batches: dict[int, set[str]] = {}
        for line in (folder / "batches.txt").read_text().splitlines():
            position, _, keys = line.partition(" ")
            batches.setdefault(int(position), set()).add(keys)
        return cls(
            state=last.tensors,
            facts={k: v for k, v in last.extra.items() if k not in ("notes", "history")},
            model=load_checkpoint(storage.join(spec.folder, MODEL_FOLDER)).tensors,
            metrics=[untimed(json.loads(line)) for line in (folder / METRICS_FILE).read_text().splitlines()],
            sheets={path.name: path.read_bytes() for path in (folder / SAMPLES_FOLDER).iterdir()},
            batches=batches,
        )


def untimed(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in TIMED}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[Path], TrainSpec]]:
    """Both trainings with all that is drawn: dropped scales, wrong bits, dropped captions and blocks."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    manifest = make_data(folder)
    tokenizer = make_tokenizer(folder, manifest)
    return {
        "tokenizer": lambda output: tokenizer_spec(
            output, manifest, loop=SHORT, losses=TokenizerLosses(keep_probability=0.5, l2=0.5)
        ),
        "transformer": lambda output: transformer_spec(output, manifest, tokenizer, loop=SHORT),
    }


@pytest.fixture(scope="module")
def ends(specs: dict[str, Callable[[Path], TrainSpec]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """What the quiet runs leave."""
    found = {}
    for kind in KINDS:
        spec = specs[kind](tmp_path_factory.mktemp(kind))
        assert in_a_dying_process(lambda spec=spec: work(spec)) == 0  # type: ignore[misc]
        found[kind] = End.of(spec)
    return found


def work(spec: TrainSpec, kill: tuple[int, Act] | None = None) -> None:
    """What a worker does, with a note of every part that is trained on; dies in an act of a step if it shall."""
    torch.set_num_threads(1)
    Path(spec.folder).mkdir(parents=True, exist_ok=True)
    made = session(spec)
    state, task = made.state, made.task
    batches = os.open(Path(spec.folder) / "batches.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def die(act: Act, step: int) -> None:
        if kill == (step, act):
            os.kill(os.getpid(), signal.SIGKILL)

    numbers = itertools.count()

    def losses(part: Any, *arguments: Any, _really: Any = task.losses, **named: Any) -> Any:
        found = _really(part, *arguments, **named)
        which = next(numbers) % SHORT.num_parts
        os.write(batches, f"{state.position} {which} {' '.join(part.keys)}\n".encode())
        if which == 1:
            die("loss", state.step + 1)
        return found

    def update(*arguments: Any, _really: Any = state.optimizer.step, **named: Any) -> Any:
        found = _really(*arguments, **named)
        die("update", state.step + 1)
        return found

    def write(uri: str, *arguments: Any, _really: Any = storage.write_bytes, **named: Any) -> None:
        _really(uri, *arguments, **named)
        if uri.endswith(f"step-{state.step:08d}.png"):
            die("sample", state.step)
        if "/step-" in uri and uri.endswith("config.json"):
            die("save", int(storage.name(storage.parent(uri)).removeprefix("step-")))

    def tell(_share: float, message: str) -> None:
        if message.startswith("step "):
            die("log", state.step)

    # In a process that ends with this training nothing has to be put back.
    task.losses = losses
    state.optimizer.step = update
    storage.write_bytes = write  # type: ignore[assignment]
    training_worker.train_session(spec, made, ALONE, tell, lambda: False)


def points(exhaustive: bool) -> list[tuple[int, Act]]:
    """Steps and acts to die in; saves and samples are due after some steps only."""
    every = [
        (step, act)
        for step in range(STEPS + 1)
        for act in ACTS
        if not (act == "sample" and not SHORT.is_due(step, SHORT.sample_every_steps))
        and not (act == "save" and not SHORT.is_due(step, SHORT.save_every_steps))
        and (step > 0 or act == "save")
    ]
    return every if exhaustive else random.Random(0).sample(every, DEFAULT_POINTS)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_any_act_of_any_step_a_run_goes_on_to_the_same_end(
    kind: str,
    specs: dict[str, Callable[[Path], TrainSpec]],
    ends: dict[str, End],
    tmp_path: Path,
    exhaustive: bool,
) -> None:
    quiet = ends[kind]
    assert len(quiet.batches) == STEPS
    for step, act in points(exhaustive):
        spec = specs[kind](tmp_path / f"{act}-{step}")
        code = in_a_dying_process(lambda: work(spec, (step, act)))  # noqa: B023 - runs at once
        assert code == -signal.SIGKILL, f"no kill in {act} of step {step}"
        assert in_a_dying_process(lambda: work(spec)) == 0  # noqa: B023
        assert_same_end(End.of(spec), quiet, f"killed in {act} of step {step}")


def assert_same_end(found: End, expected: End, where: str) -> None:
    """Weights, averages, optimizer, facts, schedule and metrics, sheets and data order are equal bit for bit."""
    for mine, theirs in ((found.state, expected.state), (found.model, expected.model)):
        assert mine.keys() == theirs.keys(), where
        for name, value in theirs.items():
            assert torch.equal(mine[name], value), f"{where}: {name}"
    assert found.metrics == expected.metrics, where
    assert found.facts == expected.facts, where
    assert found.sheets == expected.sheets, where
    assert found.batches == expected.batches, where
