"""A small learner with randomness in its loss, to test the loop without pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinity.training.checkpoints import StateStore
from infinity.training.ema import Ema
from infinity.training.loop import LoopConfig, Losses
from infinity.training.optimizer import OptimizerConfig, make_optimizer
from infinity.training.parallel import Team, part_of
from infinity.training.state import Row, TrainState, generator_for
from infinity.training.train import Listeners, train

BATCH = 8
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_steps=3, decay="cosine", clip_norm=1.0, weight_decay=0.1)


@dataclass(frozen=True)
class Numbers:
    """Inputs and their names."""

    keys: tuple[str, ...]
    values: Tensor

    @property
    def num_tokens(self) -> int:
        return self.values.numel()

    def without(self, keys: frozenset[str]) -> Numbers | None:
        kept = [place for place, key in enumerate(self.keys) if key not in keys]
        return Numbers(tuple(self.keys[i] for i in kept), self.values[kept]) if kept else None

    def blank(self) -> Numbers:
        return Numbers(("",) * len(self.keys), torch.zeros_like(self.values))


class Regression:
    """Learns the sum of four numbers; ``noise`` scales random errors of the inputs, ``spoil`` makes one sample bad."""

    def __init__(self, *, noise: float = 0.1, spoil: str | None = None) -> None:
        self.module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 1))
        generator = torch.Generator().manual_seed(5)
        for weight in self.module.parameters():
            nn.init.normal_(weight, std=0.3, generator=generator)
        self.noise, self.spoil = noise, spoil
        self.checked: list[Row] = []

    loss_at_start = 4.0

    def losses(self, part: Numbers, generator: torch.Generator, *, measured: bool) -> Losses:
        inputs = part.values + self.noise * torch.randn(part.values.shape, generator=generator)
        error = (self.module(inputs).squeeze(-1) - part.values.sum(dim=-1)) ** 2
        if self.spoil in part.keys:
            error = error * torch.tensor([float("nan") if key == self.spoil else 1.0 for key in part.keys])
        return Losses(error, torch.zeros(()), {"mean_error": error.detach().sqrt().mean()} if measured else {})

    def flops(self, part: Numbers) -> float:
        return 1e6 * len(part.keys)

    def check(self, history: Sequence[Row]) -> None:
        self.checked.append(history[-1])


def feed(step: int, team: Team = Team(), parts: int = 1) -> Sequence[Numbers]:  # noqa: B008 - frozen
    """The team member's parts of the batch of a step."""
    values = torch.randn(BATCH, 4, generator=generator_for(1, "data", step))
    keys = tuple(f"sample-{step}-{row}" for row in range(BATCH))
    return [Numbers(part_of(keys, n, parts), part_of(values, n, parts)) for n in team.parts(parts)]


def new_state(learner: Regression, config: LoopConfig) -> TrainState:
    ema = None if config.ema_decay is None else Ema(learner.module, config.ema_decay)
    return TrainState(module=learner.module, optimizer=make_optimizer(learner.module, OPTIMIZER), ema=ema)


def all_states(folder: Path, writers: Team = Team()) -> StateStore:  # noqa: B008 - frozen
    """Keeps every state."""
    return StateStore(str(folder), keep=10**6, background=False, writers=writers)


def quiet(saves: Path | None, writers: Team = Team()) -> Listeners:  # noqa: B008 - frozen
    """Save where there is a place, go back to the newest there, and say nothing."""
    store = None if saves is None else all_states(saves, writers)

    def save(now: TrainState) -> None:
        if store is not None:
            store.save(now)

    def rewind(now: TrainState) -> None:
        assert store is not None
        found, _ = store.newest()
        assert found is not None
        store.restore(now, found.uri)

    return Listeners(log=lambda _: None, sample=lambda _: None, save=save, rewind=rewind)


def run(
    config: LoopConfig,
    *,
    learner: Regression | None = None,
    saves: Path | None = None,
    resume: Path | None = None,
    team: Team = Team(),  # noqa: B008 - frozen
    **changes: Any,
) -> TrainState:
    """Train with the toy, saving each due state as ``<saves>/step-<step>``; ``changes`` replaces listeners."""
    learner = learner or Regression()
    state = new_state(learner, config)
    if resume is not None:
        all_states(resume.parent).restore(state, str(resume))
    listeners = replace(quiet(saves), **changes)
    train(
        state,
        learner,
        lambda step: feed(step, team, config.num_parts),
        config,
        OPTIMIZER,
        listeners,
        seed=3,
        team=team,
    )
    return state


def assert_same(a: TrainState, b: TrainState, *, exact: bool = True) -> None:
    """Equal step, weights, averages and optimizer; bit for bit unless told otherwise."""
    assert a.step == b.step
    tensors_a, tensors_b = dict(a.tensors()), dict(b.tensors())
    assert tensors_a.keys() == tensors_b.keys()
    for name, value in tensors_a.items():
        if exact:
            assert torch.equal(value, tensors_b[name]), name
        else:
            torch.testing.assert_close(value, tensors_b[name], rtol=1e-4, atol=1e-6, msg=name)
