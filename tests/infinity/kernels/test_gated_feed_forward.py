"""The feed-forward layer with its gate equals the formula, and keeps one tensor of a batch less."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinity.kernels import feed_forward as chunks
from infinity.kernels.gated_feed_forward import LEAST_TOKENS, gated_feed_forward, serves_gated
from infinity.kernels.switch import use_kernels

NAMES = ("residual", "gate", "x", "expand.weight", "expand.bias", "contract.weight", "contract.bias")


def leaves(batch: int, length: int) -> tuple[list[Tensor], nn.Linear, nn.Linear]:
    torch.manual_seed(batch + length)
    expand, contract = nn.Linear(8, 16), nn.Linear(16, 8)
    tensors = [torch.randn(batch, each, 8, requires_grad=True) for each in (length, 1, length)]
    return [*tensors, *expand.parameters(), *contract.parameters()], expand, contract


def formula(residual: Tensor, gate: Tensor, x: Tensor, expand: nn.Linear, contract: nn.Linear) -> Tensor:
    branch: Tensor = contract(F.gelu(expand(x), approximate="tanh"))
    return residual + gate * branch


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 17), (2, 50), (0, 5), (4, 0)])
def test_value_and_gradients_equal_the_formula(
    batch: int, length: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK", chunk)
    wanted, expand, contract = leaves(batch, length)
    found, expected = (each(*wanted[:3], expand, contract) for each in (gated_feed_forward, formula))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    weight = torch.randn(expected.shape)
    ours, plain = (torch.autograd.grad((each * weight).sum(), wanted) for each in (found, expected))
    for name, one, other in zip(NAMES, ours, plain, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("learning", range(7))
def test_a_single_tensor_that_learns_gets_its_gradient(learning: int) -> None:
    """As in a finetuning of some layers alone."""
    wanted, expand, contract = leaves(2, 5)
    for place, tensor in enumerate(wanted):
        tensor.requires_grad_(place == learning)
    expected = torch.autograd.grad(formula(*wanted[:3], expand, contract).square().sum(), wanted[learning])
    found = torch.autograd.grad(gated_feed_forward(*wanted[:3], expand, contract).square().sum(), wanted[learning])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_neither_the_result_of_the_layer_nor_the_residual_stream_is_kept() -> None:
    wanted, expand, contract = leaves(2, 9)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(id(t)) or t, lambda t: t):  # type: ignore[func-returns-value]
        gated_feed_forward(*wanted[:3], expand, contract)
    assert sorted(kept) == sorted(id(each) for each in wanted[1:])


def test_short_samples_adapters_autocast_and_plain_kernels_get_the_formula() -> None:
    expand, contract = nn.Linear(8, 16), nn.Linear(16, 8)
    long, short = torch.zeros(1, LEAST_TOKENS, 8), torch.zeros(1, LEAST_TOKENS - 1, 8)
    assert serves_gated(long, expand, contract)
    assert not serves_gated(short, expand, contract)
    assert not serves_gated(long[0], expand, contract)
    assert not serves_gated(long, nn.Sequential(expand), contract)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        assert not serves_gated(long, expand, contract)
    with use_kernels("plain"):
        assert not serves_gated(long, expand, contract)
    with torch.no_grad():
        assert not serves_gated(long, expand, contract)


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 17), (2, 50), (0, 5)])
def test_hidden_features_that_are_kept_change_no_bit(
    batch: int, length: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK", chunk)
    wanted, expand, contract = leaves(batch, length)
    again, kept = (gated_feed_forward(*wanted[:3], expand, contract, keeps_hidden=keeps) for keeps in (False, True))
    assert torch.equal(again, kept)
    weight = torch.randn(again.shape)
    pairs = zip(*(torch.autograd.grad((each * weight).sum(), wanted) for each in (again, kept)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
