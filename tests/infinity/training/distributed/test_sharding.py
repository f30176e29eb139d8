"""Weights on their way to being sharded."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import _bring, clip, is_sharded, own_rows, shard, whole
from tests.fixtures.jobs.process_groups import exit_codes
from tests.fixtures.models.tiny_transformer import random_transformer


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


def _shards_all(group: ProcessGroup) -> None:
    model, expected = random_transformer(), random_transformer().state_dict()
    assert not is_sharded(model)
    shard(model, group, torch.device("cpu"))
    assert is_sharded(model)
    for name, weight in model.named_parameters():
        assert isinstance(weight, DTensor), name
        rows = own_rows(weight)
        assert torch.equal(weight.to_local(), expected[name][rows]), name
        assert torch.equal(whole(weight), expected[name]), name


def test_every_weight_is_divided_by_rows_and_whole_again(tmp_path: Path) -> None:
    """None is forgotten: a weight that each worker keeps for itself would drift apart."""
    for size in (1, 2):
        assert exit_codes(size, _shards_all, tmp_path / f"meeting-{size}") == [0] * size


def _all_come(group: ProcessGroup) -> None:
    apart = group.apart()
    assert apart.all_come(60.0)
    assert group.gather(group.rank * 10) == [0, 10]
    assert group.sum(torch.tensor([1.0, group.rank])).tolist() == [2.0, 1.0]


def test_processes_that_all_come_know_it_and_gather_in_order(tmp_path: Path) -> None:
    assert exit_codes(2, _all_come, tmp_path / "meeting") == [0, 0]
    assert ProcessGroup().gather("alone") == ["alone"]
