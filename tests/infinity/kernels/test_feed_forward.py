"""The feed-forward layer that keeps less equals its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from infinity.kernels import feed_forward as module
from infinity.kernels.feed_forward import _gains_by_gelu_products, _with_gelu_product, feed_forward


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("shape", [(3, 50, 8), (7, 8), (1, 1, 8)])
def test_value_and_gradients_equal_the_formula(shape: tuple[int, ...], frozen: bool) -> None:
    torch.manual_seed(0)
    expand, contract = nn.Linear(8, 16), nn.Linear(16, 8)
    for linear in (expand, contract):
        linear.requires_grad_(not frozen)
    x = torch.randn(shape, requires_grad=True)
    leaves = [x, *([] if frozen else [*expand.parameters(), *contract.parameters()])]
    found = feed_forward(x, expand, contract)
    expected = contract(F.gelu(expand(x), approximate="tanh"))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    weight = torch.randn(expected.shape)
    for ours, plain in zip(
        torch.autograd.grad((found * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_less_is_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the hidden width one tensor is kept, none where rows go through in chunks; the formula keeps two."""
    expand, contract, x = nn.Linear(8, 64), nn.Linear(64, 8), torch.randn(10, 8, requires_grad=True)

    def kept(run: object) -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel() if tensor.shape[-1] == 64 and tensor.shape[0] == 10 else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run() if callable(run) else None
        return sum(sizes)

    assert kept(lambda: feed_forward(x, expand, contract)) == 640
    assert kept(lambda: contract(F.gelu(expand(x), approximate="tanh"))) == 1280
    monkeypatch.setattr(module, "_CHUNK", 320)
    assert kept(lambda: feed_forward(x, expand, contract)) == 0


@pytest.mark.parametrize("chunk", [1, 100, 800, 10**6])
def test_rows_go_through_in_chunks_of_any_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expand, contract, x = nn.Linear(8, 16), nn.Linear(16, 8), torch.randn(3, 17, 8, requires_grad=True)
    leaves = [x, *expand.parameters(), *contract.parameters()]
    expected = torch.autograd.grad(contract(F.gelu(expand(x), approximate="tanh")).square().sum(), leaves)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = torch.autograd.grad(feed_forward(x, expand, contract).square().sum(), leaves)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_an_empty_batch_has_zeros_as_gradients() -> None:
    expand, contract, x = nn.Linear(8, 16), nn.Linear(16, 8), torch.zeros(0, 8, requires_grad=True)
    result = feed_forward(x, expand, contract)
    result.sum().backward()
    assert result.shape == (0, 8)
    assert expand.weight.grad is not None
    assert not expand.weight.grad.any()


@pytest.mark.parametrize("shape", [(3, 50, 8), (7, 8)])
def test_the_form_for_checkpointed_blocks_has_the_same_value_and_gradients(shape: tuple[int, ...]) -> None:
    """On a CPU it is not used, but computes the same."""
    torch.manual_seed(0)
    expand, contract, x = nn.Linear(8, 16), nn.Linear(16, 8), torch.randn(shape, requires_grad=True)
    leaves = [x, *expand.parameters(), *contract.parameters()]
    found, expected = _with_gelu_product(x, expand, contract), contract(F.gelu(expand(x), approximate="tanh"))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    weight = torch.randn(expected.shape)
    for ours, plain in zip(
        torch.autograd.grad((found * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    assert not _gains_by_gelu_products(x, expand, contract, recomputed=True)


def test_autocast_decides_the_data_type_of_that_form() -> None:
    expand, contract, x = nn.Linear(8, 16), nn.Linear(16, 8), torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = _with_gelu_product(x, expand, contract), contract(F.gelu(expand(x), approximate="tanh"))
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    found.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == expand.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("learning", range(4))
def test_a_single_weight_that_learns_gets_its_gradient(learning: int) -> None:
    """As in a finetuning of some layers alone."""
    torch.manual_seed(1)
    expand, contract = nn.Linear(8, 16), nn.Linear(16, 8)
    weights = [*expand.parameters(), *contract.parameters()]
    for place, weight in enumerate(weights):
        weight.requires_grad_(place == learning)
    x = torch.randn(5, 8, requires_grad=True)
    expected = torch.autograd.grad(contract(F.gelu(expand(x), approximate="tanh")).sum(), weights[learning])
    found = torch.autograd.grad(feed_forward(x, expand, contract).sum(), weights[learning])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
def test_hidden_features_that_are_kept_change_no_bit(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    torch.manual_seed(0)
    expand, contract = nn.Linear(8, 32), nn.Linear(32, 8)
    x = torch.randn(2, 11, 8, requires_grad=True)
    wanted = [x, *expand.parameters(), *contract.parameters()]
    again, kept = (feed_forward(x, expand, contract, keeps_hidden=keeps) for keeps in (False, True))
    assert torch.equal(again, kept)
    pairs = zip(*(torch.autograd.grad(each.square().sum(), wanted) for each in (again, kept)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
