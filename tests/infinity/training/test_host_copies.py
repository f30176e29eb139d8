"""Saves whose copies are made late hold what was there when they were asked for, wherever the training is by then."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from infinity.checkpoint import load_checkpoint
from infinity.jobs.training.base import STATE_FOLDER
from infinity.jobs.training.worker import train_session
from infinity.training import checkpoints
from infinity.training.checkpoints import StateStore
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.host_copies import HostCopies, host_copies
from infinity.training.learner import LoopConfig
from infinity.training.state import TrainState
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.toy_training import run
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, session, transformer_spec

TOY = LoopConfig(num_steps=6, batch_size=8, save_every_steps=2, log_every_steps=2, ema_decay=0.9)


class LateCopies:
    """A slow GPU's copies: they are made when something waits for them, at the latest after half a second."""

    made_late = 0

    def __init__(self, originals: Mapping[str, Tensor]) -> None:
        self._originals, self._turn, self.waited_for = dict(originals), threading.Lock(), threading.Event()
        self.tensors: dict[str, Tensor] = {}

    def hold(self) -> None:
        self._make()
        self.waited_for.set()

    def wait(self) -> None:
        if not self.waited_for.wait(0.5):
            LateCopies.made_late += 1
        self._make()

    def _make(self) -> None:
        with self._turn:
            for name in list(self._originals):
                self.tensors[name] = self._originals.pop(name).clone()


def late(originals: Mapping[str, Tensor]) -> HostCopies:
    copies = LateCopies(originals)
    return HostCopies(copies.tensors, copies.wait, copies.hold)


def saves_of(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {path.name: load_checkpoint(str(path)).tensors for path in sorted(folder.glob("step-*"))}


def assert_equal(mine: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]) -> None:
    assert mine.keys() == theirs.keys()
    for step, tensors in mine.items():
        assert tensors.keys() == theirs[step].keys()
        for name, value in tensors.items():
            assert torch.equal(value, theirs[step][name]), (step, name)


def train_toy(folder: Path) -> None:
    store = StateStore(str(folder), keep=10)
    run(TOY, save=store.save)
    store.close()


def test_a_training_does_not_change_what_is_not_copied_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_toy(tmp_path / "plain")
    monkeypatch.setattr(checkpoints, "host_copies", late)
    train_toy(tmp_path / "late")
    assert len(saves_of(tmp_path / "late")) == 4
    assert_equal(saves_of(tmp_path / "late"), saves_of(tmp_path / "plain"))


def test_without_that_wait_a_save_would_hold_later_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test before says something."""
    train_toy(tmp_path / "plain")
    monkeypatch.setattr(checkpoints, "host_copies", late)
    monkeypatch.setattr(TrainState, "settle", lambda self: None)
    train_toy(tmp_path / "late")
    with pytest.raises(AssertionError):
        assert_equal(saves_of(tmp_path / "late"), saves_of(tmp_path / "plain"))


def test_an_export_does_not_put_averages_in_the_place_of_what_is_not_copied_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make_tokenizer(tmp_path / "data", manifest := make_data(tmp_path / "data"))
    for name in ("plain", "late"):
        spec = transformer_spec(tmp_path / name, manifest, tokenizer, loop=LOOP)
        outcome = train_session(spec, session(spec), ProcessGroup(), lambda _share, _text: None, lambda: False)
        assert outcome["final"]
        monkeypatch.setattr(checkpoints, "host_copies", late)
    states = [
        next(folder.rglob(f"{STATE_FOLDER}/step-00000006")).parent for folder in (tmp_path / "late", tmp_path / "plain")
    ]
    assert_equal(*(saves_of(folder) for folder in states))


def test_buffers_are_copied_before_a_forward_pass_may_change_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "host_copies", late)
    module = nn.BatchNorm1d(2)
    state = TrainState(module, torch.optim.AdamW(module.parameters()))
    store = StateStore(str(tmp_path))
    store.save(state)
    module(torch.full((4, 2), 8.0))
    store.close()
    (found,) = saves_of(tmp_path).values()
    assert not found["weights/running_mean"].any()


def test_tensors_of_the_cpu_are_copied_at_once() -> None:
    original = torch.ones(3)
    copies = host_copies({"a": original})
    original.zero_()
    copies.hold()
    copies.wait()
    assert copies.tensors["a"].tolist() == [1.0, 1.0, 1.0]
