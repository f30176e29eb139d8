"""Weights on their way to being sharded."""

import pytest
import torch
from torch import nn

from infinity.training.distributed.sharding import _bring, clip


def test_all_weights_of_a_unit_are_brought_to_the_device_as_they_are() -> None:
    """FSDP2 refuses weights that lie elsewhere, also those that it offloads afterwards."""
    unit = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.LayerNorm(3)))
    unit[1].requires_grad_(False)
    _bring(unit, torch.device("meta"))
    weights = dict(unit.named_parameters())
    assert {name: (weight.device.type, weight.requires_grad) for name, weight in weights.items()} == {
        "0.weight": ("meta", True),
        "0.bias": ("meta", True),
        "1.0.weight": ("meta", False),
        "1.0.bias": ("meta", False),
    }


def test_weights_that_are_there_already_stay_the_same_objects() -> None:
    unit = nn.Linear(2, 3)
    before = list(unit.parameters())
    _bring(unit, torch.device("cpu"))
    assert all(here is there for here, there in zip(unit.parameters(), before, strict=True))


@pytest.mark.parametrize("norm", [0.5, 4.9999995, 5.0, 5.0000005, 7.0])
def test_a_norm_within_the_bound_leaves_gradients_alone_and_a_larger_one_scales_them(norm: float) -> None:
    """The factor is computed in float32, as on a device: bit for bit the product with at most 1."""
    weight = nn.Parameter(torch.zeros(100))
    weight.grad = torch.randn(100, generator=torch.Generator().manual_seed(0))
    expected = weight.grad * torch.clamp(5.0 / (torch.tensor(norm) + 1e-6), max=1.0)
    clip([weight, nn.Parameter(torch.zeros(2))], 5.0, norm)
    assert torch.equal(weight.grad, expected)
