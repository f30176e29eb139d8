"""A state comes back as it was, and fits only its own model."""

from pathlib import Path

import pytest
import torch
from torch import nn

from infinity.training.learner import LoopConfig
from infinity.training.state import TrainState, generator_for
from tests.fixtures.jobs.toy_training import BATCH, Regression, all_states, assert_same, new_state, run

CONFIG = LoopConfig(num_steps=3, batch_size=BATCH, ema_decay=0.9)


def test_a_state_comes_back_equal(tmp_path: Path) -> None:
    state = run(CONFIG)
    state.history[-1]["psnr_db"] = float("inf")
    all_states(tmp_path).save(state)
    other = new_state(Regression(), CONFIG)
    all_states(tmp_path).restore(other, str(tmp_path / "step-00000003"))
    assert_same(state, other)
    assert other.facts() == state.facts()
    assert other.history == state.history


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run(CONFIG, saves=tmp_path)
    module = nn.Linear(4, 1)
    other = TrainState(module=module, optimizer=torch.optim.AdamW(module.parameters()))
    with pytest.raises(ValueError, match="another model"):
        all_states(tmp_path).restore(other, str(tmp_path / "step-00000003"))


def test_generators_depend_on_seed_purpose_and_place_and_on_nothing_else() -> None:
    def draw(*place: object) -> float:
        return torch.rand(1, generator=generator_for(*place)).item()  # type: ignore[arg-type]

    assert draw(1, "step", 2, 0) == draw(1, "step", 2, 0)
    assert len({draw(1, "step", 2, 0), draw(2, "step", 2, 0), draw(1, "data", 2, 0), draw(1, "step", 2, 1)}) == 4
