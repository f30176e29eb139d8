"""Parts of a transformer block."""

import torch

from infinity.transformer.attention import KeyValueCache
from infinity.transformer.block import is_kept, modulated_norm
from tests.fixtures.models.tiny_transformer import random_text, random_transformer


def test_modulated_norm_is_layer_norm_with_a_gain_and_shift_of_each_sample() -> None:
    x, gain, shift = (torch.randn(2, n, 8, generator=torch.Generator().manual_seed(n)) for n in (5, 1, 1))
    leaves = [each.requires_grad_() for each in (x, gain, shift)]
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt() * gain + shift
    found = modulated_norm(x, gain, shift, 1e-6)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(modulated_norm(x, gain, shift, 1e-6), expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_an_addition_left_to_the_next_block_changes_no_bit() -> None:
    model, numbers = random_transformer(), torch.Generator().manual_seed(0)
    caption = model.read(random_text((3, 5)))
    x, rotary = torch.randn(2, 4, model.config.width, generator=numbers), torch.randn(4, 8, 2, generator=numbers)
    expected, stream, pending = x, x, None
    for number, block in enumerate(model.block_modules()):
        inputs = (caption.modulations[number], caption.memories[number], rotary)
        expected = block(expected, *inputs, KeyValueCache(4))
        stream, pending = block.advance(stream, pending, *inputs, KeyValueCache(4))
    assert pending is not None
    assert torch.equal(pending.added_to(stream), expected)
    assert not torch.equal(stream, expected)


def test_a_cache_holds_the_same_in_either_order_of_memory() -> None:
    numbers = torch.Generator().manual_seed(0)
    caches = [KeyValueCache(5, by_token=by_token) for by_token in (False, True)]
    for length in (1, 3):
        keys, values = (torch.randn(2, 3, length, 4, generator=numbers) for _ in range(2))
        found = [cache.extend(keys, values) for cache in caches]
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        caches = [cache.first(2) for cache in caches]
    assert [each[0].stride(1) < each[0].stride(2) for each in found] == [False, True]


def test_checkpointing_of_a_compiled_block_keeps_attention_and_the_product_that_shrinks() -> None:
    aten = torch.ops.aten
    heads, tall, wide, small = (2, 4, 9, 8), (18, 128), (18, 32), (128, 32)
    assert is_kept(aten._scaled_dot_product_flash_attention.default, [heads] * 3)
    assert is_kept(aten._scaled_dot_product_flash_attention_for_cpu.default, [heads] * 3)
    assert is_kept(torch.ops.higher_order.flex_attention, [heads] * 3)
    assert not is_kept(aten._scaled_dot_product_flash_attention_backward.default, [heads] * 3)
    assert is_kept(aten.addmm.default, [(32,), tall, small])
    assert not is_kept(aten.addmm.default, [(128,), wide, (32, 128)])
    assert not is_kept(aten.addmm.default, [(32,), wide, (32, 32)])
    assert not is_kept(aten.gelu.default, [tall])
