"""AdamW whose moments rest on the CPU takes the steps of AdamW, bit for bit, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from infinity.training.ema import Ema
from infinity.training.learner import LoopConfig
from infinity.training.optimizers import host_states
from infinity.training.optimizers.optimizer import OptimizerConfig, make_optimizer
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.toy_training import assert_same
from tests.fixtures.jobs.training_sessions import LOOP, OPTIMIZER, make_tokenizer, train_here, transformer_spec

RESTING = OPTIMIZER.replace(states_on_cpu=True)


def test_a_training_has_equal_bits_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many parts, of which no group has the same number."""
    monkeypatch.setattr(host_states, "BUCKET_ELEMENTS", 500)
    tokenizer = make_tokenizer(tmp_path / "data", manifest := make_data(tmp_path / "data"))
    spec = transformer_spec(tmp_path, manifest, tokenizer)
    plain = train_here(spec).state
    resting = spec.replace(optimizer=RESTING, loop=LOOP.replace(ema_on_cpu=True))
    whole = train_here(resting, saves=tmp_path / "states").state
    assert isinstance(whole.optimizer, host_states.HostAdamW)
    assert_same(whole, plain)
    assert_same(train_here(resting, resume=tmp_path / "states" / "step-00000003").state, plain)


def test_each_weight_is_updated_once_and_one_without_a_gradient_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_states, "BUCKET_ELEMENTS", 5)
    modules = [nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.3)
    optimizers = [
        make_optimizer(m, c) for m, c in zip(modules, (config, config.replace(states_on_cpu=True)), strict=True)
    ]
    for step in range(3):
        for module, optimizer in zip(modules, optimizers, strict=True):
            for number, weight in enumerate(module.parameters()):
                generator = torch.Generator().manual_seed(10 * step + number)
                weight.grad = None if number == step else torch.randn(weight.shape, generator=generator)
            optimizer.step()
    for mine, theirs in zip(*(module.parameters() for module in modules), strict=True):
        assert torch.equal(mine, theirs)
    groups = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers]
    assert groups[0] == groups[1]


def test_parts_hold_every_weight_once_and_none_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_states, "BUCKET_ELEMENTS", 10)
    weights = [torch.zeros(size) for size in (4, 5, 2, 30, 1, 9, 1)]
    parts = list(host_states._parts(weights))
    assert [[len(weight) for weight in part] for part in parts] == [[4, 5], [2], [30], [1, 9], [1]]
    assert list(host_states._parts([])) == []


@pytest.mark.parametrize("other", [{"algorithm": "muon"}, {"states": "8bit"}])
def test_other_ways_to_save_that_memory_are_refused_beside_it(other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="states_on_cpu: expected algorithm 'adamw' with states 'float32'"):
        RESTING.replace(**other)


def test_an_average_elsewhere_moves_as_one_beside_its_weights() -> None:
    """One by one and all together give equal bits; a phantom card shows where they lie."""
    modules = [nn.Linear(7, 5) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    averages = [Ema(module, 0.9, on_cpu=number == 1) for number, module in enumerate(modules)]
    live = averages[1]._moving[1]
    averages[1]._moving = averages[1]._moving[0], [Elsewhere(value) for value in live]  # type: ignore[assignment]
    for step in range(1, 5):
        for module, average in zip(modules, averages, strict=True):
            with torch.no_grad():
                module.weight.add_(step)
            average.update(step)
    for name, value in averages[0].weights().items():
        assert torch.equal(value, averages[1].weights()[name])


class Elsewhere:
    """A weight on another device."""

    device = torch.device("cuda", 0)

    def __init__(self, value: torch.Tensor) -> None:
        self._value = value

    def to(self, device: str) -> torch.Tensor:
        assert device == "cpu"
        return self._value.clone()


def test_the_switches_change_no_earlier_digest() -> None:
    assert "states_on_cpu" not in OPTIMIZER.identity()
    assert "ema_on_cpu" not in LoopConfig(num_steps=1, batch_size=1).identity()
    assert RESTING.identity() != OPTIMIZER.identity()
