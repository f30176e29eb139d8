"""Attention kernels agree with each other; the mask is block-causal."""

import pytest
import torch
import torch.nn.functional as F

from infinity.scales import Resolution, published_schedule
from infinity.transformer import attention
from infinity.transformer.attention import attend, block_causal_attention, scale_mask, visibility_bias, windows

CPU = torch.device("cpu")


def test_mask_is_whole_blocks_below_and_on_the_diagonal() -> None:
    schedule = Resolution(sides=(1, 2, 3)).schedule(1.0)
    mask = scale_mask(schedule, CPU)
    for i, rows in enumerate(schedule.spans):
        for j, columns in enumerate(schedule.spans):
            assert mask[rows, columns].all() == mask[rows, columns].any() == (j <= i)


@pytest.mark.parametrize("dense_tokens", [0, 100, 10_000])
@pytest.mark.parametrize("explicit_scores", [0, 10**9])
def test_windows_and_kernels_equal_one_masked_softmax(
    dense_tokens: int, explicit_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_DENSE_TOKENS", dense_tokens)
    monkeypatch.setattr(attention, "_EXPLICIT_SCORES", explicit_scores)
    windows.cache_clear()
    schedule = published_schedule(0.8, "256")
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, schedule.num_tokens, 8)
    leaves = [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)]
    weight = torch.randn(shape, generator=generator)
    found = block_causal_attention(*leaves, windows(schedule, CPU))
    expected = F.scaled_dot_product_attention(*leaves, attn_mask=scale_mask(schedule, CPU), scale=1.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    windows.cache_clear()


@pytest.mark.parametrize("explicit_scores", [0, 10**9])
def test_hidden_text_changes_nothing(explicit_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_EXPLICIT_SCORES", explicit_scores)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(3))
    visible = torch.tensor([[True, True, True, False, False], [True] * 5])
    found = attend(query, key, value, visibility_bias(visible)[:, None, None], 0.3)
    alone = attend(query[:1], key[:1, :, :3], value[:1, :, :3], None, 0.3)
    torch.testing.assert_close(found[:1], alone)
