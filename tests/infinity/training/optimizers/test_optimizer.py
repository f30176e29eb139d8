"""Which weights decay, and how the learning rate moves."""

from itertools import pairwise

import pytest
from torch import nn

from infinity.training.optimizers.optimizer import OptimizerConfig, learning_rate_at, make_optimizer, split_by_decay


def test_only_matrices_and_kernels_decay() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.LayerNorm(4)
            self.embedding = nn.Embedding(5, 4)
            self.table = nn.Parameter(self.embedding.weight.detach().clone())
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    model = Model()
    decaying, others = split_by_decay(model)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert {names[id(w)] for w in decaying} == {"linear.weight", "conv.weight"}
    assert {names[id(w)] for w in others} == {
        "table", "linear.bias", "conv.bias", "norm.weight", "norm.bias", "embedding.weight",
    }  # fmt: skip
    optimizer = make_optimizer(model, OptimizerConfig(learning_rate=1e-3, weight_decay=0.3))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


def test_the_rate_rises_then_stays() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=3)
    assert [learning_rate_at(config, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_rate_falls_from_the_highest_to_the_final_share(decay: str) -> None:
    config = OptimizerConfig.from_json({"learning_rate": 2.0, "warmup_steps": 2, "decay": decay, "final_share": 0.1})
    rates = [learning_rate_at(config, step, 21) for step in range(21)]
    assert rates[2] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(rates[2:]))
    assert rates[11] == pytest.approx((2.0 + 0.2) / 2)


def test_the_rate_drops_once_after_so_many_steps() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=1, decay="drop", final_share=0.1, drop_step=4)
    assert [learning_rate_at(config, step, 7) for step in range(7)] == [0.5, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1]
    for wrong in ({"decay": "constant"}, {"drop_step": None}, {"drop_step": -1}):
        with pytest.raises(ValueError, match="drop_step: expected a number of steps with decay='drop'"):
            OptimizerConfig.from_json(config.to_json() | wrong)


@pytest.mark.parametrize(
    ("field", "value"), [("learning_rate", 0.0), ("clip_norm", -1.0), ("betas", (0.9, 1.0)), ("final_share", 1.5)]
)
def test_settings_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        OptimizerConfig(learning_rate=1e-3).replace(**{field: value})
