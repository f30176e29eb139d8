"""The averaged weights follow slowly and can be lent to the module."""

import pytest
import torch
from torch import nn

from infinity.training.ema import Ema, averaged


def test_the_average_is_the_weighted_sum_of_all_weights_so_far() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, decay=0.5)
    expected = module.weight.detach().clone()
    for n in range(1, 20):
        with torch.no_grad():
            module.weight.add_(1.0)
        ema.update(n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(ema.weights()["weight"], expected)


def test_a_young_average_is_short() -> None:
    ema = Ema(nn.Linear(2, 2), decay=0.5)
    assert [ema.decay_at(n) for n in (1, 2, 3, 7, 8, 9)] == [2 / 11, 3 / 12, 4 / 13, 8 / 17, 0.5, 0.5]


def test_constant_weights_are_their_own_average() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, decay=0.99)
    ema.update(1)
    assert torch.equal(ema.weights()["weight"], module.weight)


def test_inside_the_block_the_module_has_the_average_and_afterwards_its_own_weights_and_mode() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, decay=0.9)
    with torch.no_grad():
        module.weight.add_(1.0)
    own = module.weight.detach().clone()
    with averaged(module, ema):
        assert torch.equal(module.weight, ema.weights()["weight"])
        assert not module.training
    assert torch.equal(module.weight, own)
    assert module.training


def test_an_average_of_other_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="bias"):
        Ema(nn.Linear(2, 2), decay=0.9).load({"weight": torch.zeros(2, 2)})
