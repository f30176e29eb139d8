"""Tensors that the backward pass computes again: no bit changes, less is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infinity.jobs.estimate.tracing import LiveBytes
from infinity.kernels import feed_forward, recomputation
from infinity.kernels.recomputation import Recomputation, again_if_it_saves, run
from infinity.kernels.switch import use_kernels
from infinity.scales import ScaleSchedule
from infinity.transformer import Transformer, TransformerConfig, block
from tests.fixtures.models.tiny_transformer import random_inputs, random_text, random_transformer, tiny_config

FINE = ScaleSchedule(aspect_ratio=1.0, grids=((1, 1), (2, 2), (12, 12), (16, 16)), frame=(16, 16))
"""Three scales that share a masked call, and one with a call of its own."""

COARSE = FINE.prefix(2)


def _gradients(model: Transformer, schedule: ScaleSchedule, *, bfloat16: bool = False) -> list[Tensor]:
    """Logits and all gradients of a training pass with captions of unequal length."""
    inputs = random_inputs(schedule, 2).requires_grad_()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = model.train()(random_text((3, 5)), inputs, schedule, generator=torch.Generator().manual_seed(1))
    logits.square().mean().backward()
    assert inputs.grad is not None
    return [logits.detach(), inputs.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.fixture(autouse=True)
def _small_passes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (recomputation, block):
        monkeypatch.setattr(place, "LARGE_BYTES", 1)
    monkeypatch.setattr(feed_forward, "_CHUNK", 2**14)


def _turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "again_if_it_saves", lambda x, *, recomputed: None)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"cross_attention_layer_scale": 0.1}, {"drop_path": 0.0, "scale_embedding_period": 1}], ids=str
)
@pytest.mark.parametrize("schedule", [FINE, COARSE], ids=["fine", "coarse"])
def test_logits_and_gradients_are_equal_in_every_bit(
    schedule: ScaleSchedule, changes: dict[str, object], bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_transformer(tiny_config(**changes))
    found = _gradients(model, schedule, bfloat16=bfloat16)
    _turn_off(monkeypatch)
    expected = _gradients(model, schedule, bfloat16=bfloat16)
    assert len(found) == len(expected) > 40
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def _kept(model: Transformer, schedule: ScaleSchedule) -> int:
    """Bytes that a forward pass leaves for the backward pass."""
    with LiveBytes() as live:
        logits = model.train()(random_text((4, 4)), random_inputs(schedule, 2), schedule)
        kept = live.now
    logits.sum().backward()
    return kept


def test_a_block_keeps_a_third_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def model() -> Transformer:
        config = TransformerConfig(
            width=64, num_heads=2, depth=2, num_bits=6, text_channels=48, max_text_tokens=8, drop_path=0.0,
            condition_drop=0.0,
        )  # fmt: skip
        made = random_transformer(config)
        for each in made.block_modules():
            each.feed_forward.keeps_hidden = False
        return made

    found = _kept(model(), FINE)
    _turn_off(monkeypatch)
    expected = _kept(model(), FINE)
    assert found < 0.7 * expected  # what both keep: queries, keys, values, results of attention
    with use_kernels("plain"):
        assert found < 0.5 * _kept(model(), FINE)


def test_nothing_is_left_when_a_pass_is_over() -> None:
    model = random_transformer()
    with LiveBytes() as live:
        _gradients(model, FINE)
        model.zero_grad()
        before = live.now
        _gradients(model, FINE)
        model.zero_grad()
        assert live.now <= before


def test_a_graph_can_be_walked_through_twice_and_gradients_have_gradients() -> None:
    x = torch.randn(5, requires_grad=True)

    def loss(again: Recomputation | None) -> Tensor:
        return run(again, torch.sin, run(again, torch.exp, x)).pow(3).sum()

    with Recomputation() as again:
        found = loss(again)
    for kept in (True, False):
        gradient = torch.autograd.grad(found, x, create_graph=kept, retain_graph=True)[0]
        expected = torch.autograd.grad(loss(None), x, create_graph=True)[0]
        assert torch.equal(gradient, expected)
    first = torch.autograd.grad(found, x, create_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(first.sum(), x), torch.autograd.grad(expected.sum(), x))


def test_a_value_is_computed_once_for_all_its_uses() -> None:
    calls: list[int] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(1)
        return x * 2

    x = torch.randn(3, requires_grad=True)
    with Recomputation() as again:
        y = again.run(counted, x)
        z = (y.square() + y.exp().log() * y + y.view(3, 1).square().squeeze()).sum()
    calls.clear()
    z.backward()
    assert calls == [1]


def test_a_view_is_kept_as_what_it_is_a_view_of() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    with Recomputation() as again:
        turned = again.run(torch.t, x)
        loss = turned.square().sum()
    assert not again._recipes
    loss.backward()
    assert x.grad is not None
    assert torch.equal(x.grad, 2 * x.detach())


def test_an_error_within_leaves_no_hook() -> None:
    def planted(x: Tensor) -> Tensor:
        raise RuntimeError("planted")

    x, again = torch.randn(3, requires_grad=True), Recomputation()
    with pytest.raises(RuntimeError, match="planted"), again:
        again.run(planted, again.run(torch.exp, x))
    assert not again._recipes
    with Recomputation() as outer, pytest.raises(RuntimeError, match="planted"), again:
        again.run(planted, x)
    again.run(torch.exp, x).square().sum().backward()  # not within its block: kept as always
    assert x.grad is not None
    assert not outer._recipes


def test_where_it_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1)
    assert again_if_it_saves(x, recomputed=False) is not None
    assert again_if_it_saves(x, recomputed=True) is None  # the pass is computed again anyway
    assert again_if_it_saves(torch.zeros(1, device="meta"), recomputed=False) is None
    with torch.no_grad():
        assert again_if_it_saves(x, recomputed=False) is None
    with use_kernels("plain"):
        assert again_if_it_saves(x, recomputed=False) is None
    monkeypatch.undo()
    assert again_if_it_saves(x, recomputed=False) is None  # a small pass gains nothing
    assert again_if_it_saves(torch.zeros(4, 256, 256), recomputed=False) is not None


def test_half_of_the_blocks_keep_their_hidden_features_which_changes_no_bit() -> None:
    model = random_transformer(tiny_config(depth=4))
    assert [each.feed_forward.keeps_hidden for each in model.block_modules()] == [False, False, True, True]
    found = _gradients(model, FINE)
    model.zero_grad()
    for each in model.block_modules():
        each.feed_forward.keeps_hidden = not each.feed_forward.keeps_hidden
    assert all(torch.equal(one, other) for one, other in zip(found, _gradients(model, FINE), strict=True))
